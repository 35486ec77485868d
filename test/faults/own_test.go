package faults

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/test/simulated"
)

// ownKinds are the operator's writes in its own namespace, while it starts and leads. releaseKind comes when it ends.
var ownKinds = []string{"create secrets", "create leases hold", "update leases hold", "patch endpointslices"}

const releaseKind = "update leases release"

// own is an operator without pools, of which there may be many at once.
type own struct {
	t      *testing.T
	h      *harness
	file   *simulated.Operator
	record *record
}

func TestTheOperatorLeadsAfterAFaultAtAnyOfItsOwnWrites(t *testing.T) {
	h := setup(t)
	met := &matrix{cell: map[string]map[fault]int{}}
	t.Run("faults", func(t *testing.T) {
		for _, f := range faults {
			t.Run(string(f), func(t *testing.T) {
				t.Parallel()
				o := &own{t: t, h: h, file: h.newOperator(t)}
				strikes := []*strike{{kind: releaseKind, nth: 1, fault: f}}
				for _, kind := range ownKinds {
					strikes = append(strikes, &strike{kind: kind, nth: 1, fault: f})
				}
				o.record = h.proxy.follow(o.file.Namespace, strikes...)
				o.play()
				for _, s := range strikes {
					met.expect(s.kind)
					if s.struck {
						met.met(s)
					}
				}
			})
		}
	})
	met.print(t, faults)
}

// play has the operator start, lead, end and lead again. Its CA stays the same: without it all workers are replaced.
func (o *own) play() {
	first := o.h.startOperator(o.t, o.file)
	o.await("it leads, and has met all faults", func() bool { return o.leads() && o.struck(ownKinds) })
	before := o.secret()
	first.stop()
	if !o.struck([]string{releaseKind}) {
		o.fail("the Lease was not released")
	}
	first.expireLease()
	o.h.startOperator(o.t, o.file)
	o.await("another one leads", o.leads)
	if after := o.secret(); before.UID != after.UID || !bytes.Equal(before.Data[corev1.TLSCertKey], after.Data[corev1.TLSCertKey]) {
		o.fail("the CA has changed")
	}
	o.h.proxy.look(func() {
		for kind, n := range o.record.writes {
			if n > 20 {
				o.t.Errorf("%d writes %q", n, kind)
			}
		}
	})
}

func (o *own) struck(kinds []string) bool {
	left := 0
	o.h.proxy.look(func() {
		for _, s := range o.record.strikes {
			for _, kind := range kinds {
				if s.kind == kind && !s.struck {
					left++
				}
			}
		}
	})
	return left == 0
}

// leads tells whether somebody holds the Lease and is the one that agents reach.
func (o *own) leads() bool {
	lease, slice := &coordinationv1.Lease{}, &discoveryv1.EndpointSlice{}
	return o.get(leaseName, lease) && ptr.Deref(lease.Spec.HolderIdentity, "") != "" &&
		o.get("workerpool-dispatch", slice) && len(slice.Endpoints) == 1
}

func (o *own) secret() *corev1.Secret {
	secret := &corev1.Secret{}
	if !o.get("workerpool-ca", secret) {
		o.fail("there is no CA")
	}
	return secret
}

func (o *own) get(name string, object client.Object) bool {
	return o.h.client.Get(o.t.Context(), key(o.file.Namespace, name), object) == nil
}

// await looks again and again: there are few things here, and no watch.
func (o *own) await(what string, holds func() bool) {
	o.t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); !holds(); <-ticker.C {
		if time.Since(began) > patience {
			o.fail("not after %v: %s", patience, what)
		}
	}
}

// fail ends the test with the timeline.
func (o *own) fail(format string, args ...any) {
	o.t.Helper()
	o.h.proxy.look(func() {
		for _, line := range o.record.timeline {
			o.t.Log(line)
		}
		o.t.Fatal(fmt.Sprintf(format, args...), o.record.strikes)
	})
}
