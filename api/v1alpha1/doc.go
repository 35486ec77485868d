// Package v1alpha1 holds the kinds of the workerpool.dev API group, version v1alpha1:
// WorkerPool, which keeps warm worker pods, and Job, which one of them runs.
//
// +kubebuilder:object:generate=true
// +groupName=workerpool.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of the kinds in this package.
	GroupVersion = schema.GroupVersion{Group: "workerpool.dev", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the kinds of this package to a scheme.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &WorkerPool{}, &WorkerPoolList{}, &Job{}, &JobList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
