package leader

import (
	"context"
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

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
