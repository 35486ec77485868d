package leader

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

var (
	leaseName = types.NamespacedName{Namespace: "ns", Name: "lease"}
	made      = time.Unix(1_700_000_000, 0)
)

func lease(created time.Time, transitions *int32) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "lease", CreationTimestamp: metav1.NewTime(created)},
		Spec:       coordinationv1.LeaseSpec{LeaseTransitions: transitions},
	}
}

func TestLeadingIsByTheLeaseAsItIsNow(t *testing.T) {
	won := engine.Epoch{LeaseCreated: made.UnixMicro(), Transitions: 3}
	cases := map[string]struct {
		lease   client.Object
		leading bool
	}{
		"ours still":          {lease(made, ptr.To[int32](3)), true},
		"another has it":      {lease(made, ptr.To[int32](4)), false},
		"made anew":           {lease(made.Add(time.Second), ptr.To[int32](3)), false},
		"without transitions": {lease(made, nil), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := New(Config{Live: fake.NewClientBuilder().WithObjects(c.lease).Build(), Lease: leaseName})
			l.epoch = won
			if err := l.Leading(t.Context()); (err == nil) != c.leading {
				t.Errorf("Leading: %v, want nil: %v", err, c.leading)
			}
		})
	}
	t.Run("deleted", func(t *testing.T) {
		l := New(Config{Live: fake.NewClientBuilder().Build(), Lease: leaseName})
		l.epoch = won
		if err := l.Leading(t.Context()); err == nil {
			t.Error("Leading without a Lease: no error")
		}
	})
}

func TestReadyWaitsForTheLead(t *testing.T) {
	l := New(Config{})
	gone := errors.New("the process ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := l.Ready(ctx); !errors.Is(err, gone) {
		t.Errorf("Ready before the lead: %v, want %v", err, gone)
	}
	close(l.ready)
	if err := l.Ready(t.Context()); err != nil {
		t.Errorf("Ready in the lead: %v", err)
	}
}

func TestPublishMakesOneEndpoint(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	for _, address := range []string{"10.1.2.3", "10.1.2.4"} { // the second leader takes over from the first
		err := Publish(t.Context(), c, Endpoint{
			Service: types.NamespacedName{Namespace: "ns", Name: "dispatch"}, PortName: "grpc", Port: 9443, IP: address,
		})
		if err != nil {
			t.Fatal(err)
		}
		slice := &discoveryv1.EndpointSlice{}
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: "dispatch"}, slice); err != nil {
			t.Fatal(err)
		}
		if slice.Labels[discoveryv1.LabelServiceName] != "dispatch" || slice.AddressType != discoveryv1.AddressTypeIPv4 {
			t.Errorf("the slice is of service %q and %s", slice.Labels[discoveryv1.LabelServiceName], slice.AddressType)
		}
		if len(slice.Endpoints) != 1 || len(slice.Endpoints[0].Addresses) != 1 || slice.Endpoints[0].Addresses[0] != address ||
			!ptr.Deref(slice.Endpoints[0].Conditions.Ready, false) {
			t.Errorf("endpoints %+v, want %s alone, ready", slice.Endpoints, address)
		}
		if len(slice.Ports) != 1 || *slice.Ports[0].Port != 9443 || *slice.Ports[0].Name != "grpc" {
			t.Errorf("ports %+v, want grpc 9443", slice.Ports)
		}
	}
}

func TestPublishRefusesWhatIsNoAddress(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	if err := Publish(t.Context(), c, Endpoint{IP: "manager-0"}); err == nil || err.Error() != `the pod's IP "manager-0" is not one` {
		t.Errorf("the error is %v", err)
	}
}

func TestPublishReplacesASliceOfAnotherFamily(t *testing.T) {
	refused := apierrors.NewInvalid(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice").GroupKind(), "dispatch", nil)
	there := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "dispatch"}, AddressType: discoveryv1.AddressTypeIPv6}
	c := fake.NewClientBuilder().WithObjects(there).WithInterceptorFuncs(interceptor.Funcs{
		// As the API server does: the type can't be changed.
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := c.Get(ctx, dispatchName, &discoveryv1.EndpointSlice{}); err == nil {
				return refused
			}
			return c.Apply(ctx, o, opts...)
		},
	}).Build()
	if err := Publish(t.Context(), c, Endpoint{Service: dispatchName, PortName: "grpc", Port: 9443, IP: "10.1.2.3"}); err != nil {
		t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{}
	if err := c.Get(t.Context(), dispatchName, slice); err != nil || slice.AddressType != discoveryv1.AddressTypeIPv4 {
		t.Errorf("%v, addresses are %s", err, slice.AddressType)
	}
}

var dispatchName = types.NamespacedName{Namespace: "ns", Name: "dispatch"}

// keeping runs keep on a Lease and an EndpointSlice that are well, until the test ends.
func keeping(t *testing.T) (c client.Client, ended chan error) {
	t.Helper()
	c = fake.NewClientBuilder().WithObjects(lease(made, ptr.To[int32](3))).Build()
	l := New(Config{Live: c, Lease: leaseName, Clock: clock.RealClock{}, Publish: func(ctx context.Context) error {
		return Publish(ctx, c, Endpoint{Service: dispatchName, PortName: "grpc", Port: 9443, IP: "10.1.2.3"})
	}})
	l.epoch = engine.Epoch{LeaseCreated: made.UnixMicro(), Transitions: 3}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended = make(chan error, 1)
	go func() { ended <- l.keep(ctx) }()
	synctest.Wait()
	return c, ended
}

func TestTheAddressOfTheLeaderIsRestored(t *testing.T) {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "dispatch"}}
	for name, undo := range map[string]func(context.Context, client.Client) error{
		"deleted": func(ctx context.Context, c client.Client) error { return c.Delete(ctx, slice.DeepCopy()) },
		"changed": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, slice.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(
				`{"metadata":{"labels":null},"endpoints":[{"addresses":["10.9.9.9"]}],"ports":[]}`)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := keeping(t)
				if err := undo(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				time.Sleep(keepInterval)
				synctest.Wait()
				now := &discoveryv1.EndpointSlice{}
				if err := c.Get(t.Context(), dispatchName, now); err != nil {
					t.Fatal(err)
				}
				if len(now.Endpoints) != 1 || now.Endpoints[0].Addresses[0] != "10.1.2.3" || len(now.Ports) != 1 ||
					now.Labels[discoveryv1.LabelServiceName] != "dispatch" {
					t.Errorf("labels %v, endpoints %+v, ports %+v", now.Labels, now.Endpoints, now.Ports)
				}
			})
		})
	}
}

// Somebody may delete the Lease, or make it again with what it said.
func TestTheLeadEndsWhereTheLeaseIsAnother(t *testing.T) {
	for name, again := range map[string]*coordinationv1.Lease{
		"deleted": nil, "made again": lease(made.Add(time.Hour), ptr.To[int32](3)), "set back": lease(made, ptr.To[int32](1)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, ended := keeping(t)
				time.Sleep(keepInterval)
				synctest.Wait()
				select {
				case err := <-ended:
					t.Fatalf("the lead ended with %v while all was well", err)
				default:
				}
				if err := c.Delete(t.Context(), lease(made, nil)); err != nil {
					t.Fatal(err)
				}
				if again != nil {
					if err := c.Create(t.Context(), again); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(keepInterval)
				synctest.Wait()
				select {
				case err := <-ended:
					if !errors.Is(err, errMeddled) {
						t.Errorf("the lead ended with %v, want %v", err, errMeddled)
					}
				default:
					t.Error("the lead goes on")
				}
			})
		})
	}
}
