// Package process tests what happens when a part of the system fails, is replaced or is of another version: real
// operators and real agents, each a process, with a real API server. The tests play the scheduler and the kubelet.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	poolName = "demo"
	// patience is how long anything may take on a busy machine. Nothing waits for it to pass.
	patience = 2 * time.Minute
	// leaseDuration is how long a Lease holds that nobody renews.
	leaseDuration = 15 * time.Second
	leaseName     = "workerpool-controller-manager"
	serviceName   = "workerpool-dispatch"
	// previousVariable names the folder with the programs of the version before.
	previousVariable = "PREVIOUS"
)

var (
	env *testutil.Environment
	// built has the programs of this checkout, previous those of the version before.
	built, previous programs
)

// programs are the operator and the agent of one version.
type programs struct{ manager, agent string }

func programsIn(folder string) programs {
	return programs{manager: filepath.Join(folder, "manager"), agent: filepath.Join(folder, "agent")}
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(previousVariable) == "" {
		fmt.Fprintln(os.Stderr, previousVariable+` must name the folder that "make previous" prints: "make test-process" sets it`)
		return 1
	}
	previous = programsIn(os.Getenv(previousVariable))
	folder, err := os.MkdirTemp("", "process")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	build := exec.Command("go", "build", "-o", folder+"/",
		"github.com/workerpool-dev/workerpool/cmd/manager", "github.com/workerpool-dev/workerpool/cmd/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the operator: %v\n%s", err, out)
		return 1
	}
	built = programsIn(folder)
	return testutil.Run(m, &env, nil)
}

// soak tells whether there is time for what takes long.
func soak() bool { return os.Getenv("SOAK") != "" }
