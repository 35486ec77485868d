package tolerant

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// NewInformer is the function of that name in controller-runtime's cache.Options.
type NewInformer func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer

// Informers returns a NewInformer whose informers of Jobs and WorkerPools, in all namespaces, are tolerant. Those of
// other kinds are the ordinary ones.
func Informers(config *rest.Config, scheme *runtime.Scheme) (NewInformer, error) {
	c, err := newClient(config, scheme)
	if err != nil {
		return nil, err
	}
	return func(lw toolscache.ListerWatcher, o runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		switch o.(type) {
		case *v1alpha1.Job:
			lw = c.listWatch("jobs", func() runtime.Object { return &v1alpha1.JobList{} })
		case *v1alpha1.WorkerPool:
			lw = c.listWatch("workerpools", func() runtime.Object { return &v1alpha1.WorkerPoolList{} })
		}
		return toolscache.NewSharedIndexInformer(lw, o, resync, indexers)
	}, nil
}

// tolerantClient reads our kinds.
type tolerantClient struct {
	rest   *rest.RESTClient
	params runtime.ParameterCodec
}

func newClient(config *rest.Config, scheme *runtime.Scheme) (*tolerantClient, error) {
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/apis", &v1alpha1.GroupVersion
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	config.NegotiatedSerializer = codecs{serializer.NewCodecFactory(scheme)}
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	c, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of Jobs and WorkerPools: %w", err)
	}
	return &tolerantClient{c, runtime.NewParameterCodec(scheme)}, nil
}

func (c *tolerantClient) listWatch(resource string, newList func() runtime.Object) toolscache.ListerWatcher {
	request := func(options *metav1.ListOptions) *rest.Request {
		return c.rest.Get().Resource(resource).VersionedParams(options, c.params)
	}
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list := newList()
			return list, request(&options).Do(ctx).Into(list)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch, options.AllowWatchBookmarks = true, true
			return request(&options).Watch(ctx)
		},
	}
}

// Reader gets Jobs and WorkerPools that can't be decoded too, as far as that is possible. All else is the other
// Reader's, lists too.
type Reader struct{ client.Reader }

// Get is client.Reader's.
func (r Reader) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	err := r.Reader.Get(ctx, key, into, options...)
	if err == nil {
		unmark(into)
		return nil
	}
	var kind string
	switch into.(type) {
	case *v1alpha1.Job:
		kind = "Job"
	case *v1alpha1.WorkerPool:
		kind = "WorkerPool"
	}
	if answered := apierrors.APIStatus(nil); kind == "" || errors.As(err, &answered) || ctx.Err() != nil {
		return err
	}
	raw := &unstructured.Unstructured{}
	raw.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	if r.Reader.Get(ctx, key, raw, options...) != nil {
		return err
	}
	data, encodeErr := raw.MarshalJSON()
	if encodeErr != nil {
		return err
	}
	salvaged, salvageErr := decoder{}.salvage(data)
	if salvageErr != nil {
		return err
	}
	_, salvageErr = assign(salvaged, into)
	return salvageErr
}
