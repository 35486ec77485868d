package ledger_test

import (
	"net"
	"testing"

	. "github.com/onsi/gomega"
	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestAProcessThatEndsIsWrittenDownBeforeItGoes(t *testing.T) {
	g, l := NewWithT(t), open(t)
	begun := ledger.Now()
	e := ledger.Register(l.Address(), ledger.Process{ID: "a", Job: "ns/job", Index: 3, Begun: begun})
	g.Expect(l.Running()).To(ConsistOf(And(HaveField("Job", "ns/job"), HaveField("Index", 3), HaveField("Begun", begun))))
	before := ledger.Now()
	g.Expect(e.End(7)).To(Succeed())
	g.Expect(l.Running()).To(BeEmpty())
	g.Expect(l.Processes()).To(ConsistOf(And(HaveField("Ended", true), HaveField("Code", 7), HaveField("Alive", BeNumerically(">=", before)))))
}

func TestAProcessThatIsKilledIsClosedWithoutAnEnd(t *testing.T) {
	g, l := NewWithT(t), open(t)
	ledger.Register(l.Address(), ledger.Process{ID: "a", Job: "ns/job"}).Abandon()
	g.Eventually(l.Running).Should(BeEmpty())
	g.Expect(l.Processes()).To(ConsistOf(And(HaveField("Ended", false), HaveField("Closed", Not(BeZero())))))
}

func TestALivingProcessSaysSo(t *testing.T) {
	g, l := NewWithT(t), open(t)
	e := ledger.Register(l.Address(), ledger.Process{ID: "a", Job: "ns/job"})
	registered := ledger.Now()
	g.Eventually(l.Processes).Should(ConsistOf(HaveField("Alive", BeNumerically(">", registered))))
	e.Abandon()
}

func TestAProcessIsToldHowManyOfItsTaskHaveFailed(t *testing.T) {
	g, l := NewWithT(t), open(t)
	for failed := range 3 {
		e := ledger.Register(l.Address(), ledger.Process{ID: "a", Job: "ns/job", Index: 1})
		g.Expect(e.Failed).To(Equal(failed))
		g.Expect(e.End(1)).To(Succeed())
	}
	other := ledger.Register(l.Address(), ledger.Process{ID: "b", Job: "ns/job", Index: 2})
	g.Expect(other.Failed).To(BeZero())
	g.Expect(other.End(0)).To(Succeed())
	g.Expect(ledger.Register(l.Address(), ledger.Process{ID: "c", Job: "ns/job", Index: 2}).End(0)).To(Succeed())
}

func TestAnEndThatNobodyHeardIsAnError(t *testing.T) {
	g, l := NewWithT(t), open(t)
	e := ledger.Register(l.Address(), ledger.Process{ID: "a", Job: "ns/job"})
	l.Close()
	g.Expect(e.End(0)).NotTo(Succeed())
	g.Expect(l.Processes()).To(ConsistOf(And(HaveField("Ended", false), HaveField("Closed", BeZero()))))
}

func TestWhoTalksNonsenseIsNoProcess(t *testing.T) {
	g, l := NewWithT(t), open(t)
	for _, words := range []string{"nonsense\n", "{}\n", string(make([]byte, 10_000))} {
		conn, err := net.Dial("tcp", l.Address())
		g.Expect(err).NotTo(HaveOccurred())
		_, err = conn.Write([]byte(words))
		g.Expect(err).NotTo(HaveOccurred())
		_, err = conn.Read(make([]byte, 1))
		g.Expect(err).To(HaveOccurred(), "it hangs up")
		g.Expect(conn.Close()).To(Succeed())
	}
	g.Expect(l.Processes()).To(BeEmpty())
}
