package leader

import (
	"context"
	"fmt"
	"net"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	discoveryac "k8s.io/client-go/applyconfigurations/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups=discovery.k8s.io,namespace=workerpool-system,resources=endpointslices,verbs=create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,namespace=workerpool-system,resources=endpointslices/restricted,verbs=create

// Endpoint is where agents reach a leader.
type Endpoint struct {
	// Service without a selector, whose only endpoint is the leader.
	Service types.NamespacedName
	// PortName and Port of the Service's port.
	PortName string
	Port     int32
	// IP of the leader's pod.
	IP string
}

// Publish makes a process the one endpoint of the Service. Standbys are not among the endpoints, so
// agents do not meet them, and none of the operator's pods needs to be unready for it.
func Publish(ctx context.Context, c client.Client, e Endpoint) error {
	family := discoveryv1.AddressTypeIPv4
	if ip := net.ParseIP(e.IP); ip == nil {
		return fmt.Errorf("the pod's IP %q is not one", e.IP)
	} else if strings.Contains(e.IP, ":") {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := discoveryac.EndpointSlice(e.Service.Name, e.Service.Namespace).
		WithLabels(map[string]string{
			discoveryv1.LabelServiceName: e.Service.Name,
			discoveryv1.LabelManagedBy:   "workerpool.dev",
		}).
		WithAddressType(family).
		WithPorts(discoveryac.EndpointPort().WithName(e.PortName).WithPort(e.Port).WithProtocol("TCP")).
		WithEndpoints(discoveryac.Endpoint().
			WithAddresses(e.IP).
			WithConditions(discoveryac.EndpointConditions().WithReady(true)))
	apply := func() error { return c.Apply(ctx, slice, client.FieldOwner("workerpool"), client.ForceOwnership) }
	err := apply()
	if apierrors.IsInvalid(err) { // one with addresses of another family can't be changed
		old := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: e.Service.Namespace, Name: e.Service.Name}}
		if err = client.IgnoreNotFound(c.Delete(ctx, old)); err == nil {
			err = apply()
		}
	}
	if err != nil {
		return fmt.Errorf("publishing the leader's address: %w", err)
	}
	return nil
}
