package worker_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// The literals of the next two tests are those of the migration guide in docs/library.md. Both are
// promises: programs are written so.

func TestThePoolOfTheOldWayRunsJobs(t *testing.T) {
	pool, err := worker.NewPool(worker.Options{
		Workers:   4,
		QueueSize: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	migRun(t, pool)
}

func TestThePoolOfTheNewWayRunsJobs(t *testing.T) {
	limits := worker.ResourceLimits{Memory: 1 << 30, CPU: 2, Files: 256}
	pool, err := worker.NewPool(worker.Options{
		Queue:    queue.New(100),
		Resource: resource.NewController(limits),
		Workers:  worker.NewWorkers(4),
	})
	if err != nil {
		t.Fatal(err)
	}
	migRun(t, pool)
}

func TestEachStepOfTheMigrationRunsJobs(t *testing.T) {
	limits := worker.ResourceLimits{Memory: 1 << 30, CPU: 2, Files: 256}
	steps := map[string]worker.Options{
		"workers": {Workers: worker.NewWorkers(4), QueueSize: 100},
		"queue":   {Workers: 4, Queue: queue.New(100)},
		"limits":  {Workers: 4, QueueSize: 100, Resource: resource.NewController(limits)},
	}
	for name, options := range steps {
		t.Run(name, func(t *testing.T) {
			pool, err := worker.NewPool(options)
			if err != nil {
				t.Fatal(err)
			}
			migRun(t, pool)
		})
	}
}

// migJob is a job.
type migJob struct{ err error }

func (j *migJob) Process() error  { return j.err }
func (j *migJob) OnFailure(error) {}
func (j *migJob) MaxRetries() int { return 0 }

func (j *migJob) Resources() worker.ResourceUsage {
	return worker.ResourceUsage{Memory: 1 << 20, Files: 1}
}

// migRun uses a pool of 4 workers, whose queue has room for 100 jobs, as code does that knows the
// interface only.
func migRun(t *testing.T, pool worker.Manager) {
	t.Helper()
	for range 99 {
		if err := pool.Queue().Push(&migJob{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool.Queue().Push(&migJob{errors.New("no answer")}); err != nil {
		t.Fatal(err)
	}
	if err := pool.Queue().Push(&migJob{}); !errors.Is(err, worker.ErrFull) {
		t.Errorf("job 101 for a queue of 100: %v", err)
	}
	if err := pool.Start(); err != nil {
		t.Fatal(err)
	}
	if got := pool.Status().Workers; got != 4 {
		t.Errorf("%d workers, want 4", got)
	}
	if err := pool.Stop(); err != nil {
		t.Fatal(err)
	}
	if s := pool.Status(); s.ProcessedJobs != 100 || s.FailedJobs != 1 {
		t.Errorf("status is %+v, want 100 jobs processed, 1 of them failed", s)
	}
}

const migGuide = "../../docs/library.md"

func TestEachGoCodeOfTheLibraryGuideIsTested(t *testing.T) {
	sources := migSources(t)
	for _, block := range migBlocks(t) {
		if !migContained(block, sources) {
			t.Errorf("%s has code that no test of this package has as it stands:\n%s", migGuide, block)
		}
	}
}

func TestAChangeOfAnyLineOfTheLibraryGuidesCodeIsNoticed(t *testing.T) {
	sources := migSources(t)
	for _, block := range migBlocks(t) {
		lines := strings.Split(block, "\n")
		for i, line := range lines {
			lines[i] = line + " // changed"
			if changed := strings.Join(lines, "\n"); migContained(changed, sources) {
				t.Errorf("this was not noticed:\n%s", changed)
			}
			lines[i] = line
		}
	}
}

// migBlocks returns the Go code of the guide.
func migBlocks(t *testing.T) []string {
	t.Helper()
	guide, err := os.ReadFile(migGuide)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, match := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(guide), -1) {
		blocks = append(blocks, strings.TrimSpace(match[1]))
	}
	if opened := strings.Count(string(guide), "```go"); opened != len(blocks) || opened < 10 {
		t.Fatalf("%d blocks of Go code found, but %d begin, and there are more than 10", len(blocks), opened)
	}
	return blocks
}

// migSources returns the test files of this package, as the guide shows parts of them.
func migSources(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, migAsShown(string(source)))
	}
	return sources
}

// migAsShown makes a program of an example: the guide has package and func main, and names without the
// prefix that keeps those of the examples apart.
func migAsShown(source string) string {
	source = strings.NewReplacer("package worker_test\n", "package main\n", "func Example() {", "func main() {").Replace(source)
	return migPrefix.ReplaceAllStringFunc(source, func(name string) string {
		name = strings.TrimPrefix(name, "example")
		return strings.ToLower(name[:1]) + name[1:]
	})
}

var migPrefix = regexp.MustCompile(`\bexample[A-Z]\w*`)

// migContained tells whether the block is in one of the sources, line for line, however it is indented.
func migContained(block string, sources []string) bool {
	for _, source := range sources {
		if strings.Contains("\n"+migUnindent(source)+"\n", "\n"+migUnindent(block)+"\n") {
			return true
		}
	}
	return false
}

func migUnindent(code string) string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
