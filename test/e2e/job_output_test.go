package e2e

import (
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestTheEndOfTheOutputIsKept(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.create(f.job("talker", "seq 100000; echo end").Obj(), f.job("loser", "echo error >&2; exit 1").Obj())
	out := output(f.awaitJob("talker", inState(v1alpha1.JobSucceeded, "")))
	f.Expect(len(out)).To(And(BeNumerically("<=", 4096), BeNumerically(">", 3000)))
	f.Expect(out).To(HaveSuffix("\n99999\n100000\nend\n"))
	f.Expect(output(f.awaitJob("loser", inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode)))).To(Equal("error\n"))
}

func TestOutputThatIsNotUTF8IsKeptAsFarAsItIs(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	out := f.run("binary", `printf 'a\377b\000c \303\244\n'`)
	f.Expect(utf8.ValidString(out)).To(BeTrue())
	f.Expect(out).To(And(HavePrefix("a\ufffdb"), HaveSuffix("c ä\n")))
	random := f.run("random", `head -c 100000 /dev/urandom`)
	f.Expect(utf8.ValidString(random)).To(BeTrue())
	f.Expect(utf8.RuneCountInString(random)).To(BeNumerically("<=", 4096))
}

func TestALineOfTenMegabytesIsLoggedInPieces(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("long", `head -c 10000000 /dev/zero | tr "\0" x; echo; echo end`).Obj())
	job := f.awaitJob("long", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(output(job)).To(And(HavePrefix("xxx"), HaveSuffix("x\nend\n")))
	f.Eventually(func() string { return f.kubectl("logs", job.Status.Worker, "-c", "worker", "--tail=5") }, patience).
		Should(And(ContainSubstring(`"partial":true`), MatchRegexp(`(:"|\\n)end"`)), "lines may share a record by then")
}

func TestAJobReadsItsStdin(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(),
		f.job("reader", "cat").Stdin("one\ntwo ü").Obj(),
		f.job("nothing", "cat; echo end").Obj(),
		f.job("large", "wc -c").Stdin(strings.Repeat("x", 512<<10)).Obj(),
		f.job("deaf", "echo unread").Stdin(strings.Repeat("x", 512<<10)).Obj(),
	)
	for name, want := range map[string]string{"reader": "one\ntwo ü", "nothing": "end\n", "large": "524288\n", "deaf": "unread\n"} {
		f.Expect(output(f.awaitJob(name, inState(v1alpha1.JobSucceeded, "")))).To(Equal(want), name)
	}
}
