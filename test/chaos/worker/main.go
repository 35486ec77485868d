// The worker program is what the Jobs of the chaos test run: it tells the ledger that it has begun, takes its time, and
// tells that it ends. With -serve it is a server that does so for each request.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// work is what one process is to do.
type work struct {
	job string
	// takes is how long it lasts.
	takes time.Duration
	// fails is how many processes of the task fail, before the first that succeeds.
	fails int
	// code is the exit code of a failure.
	code int
}

func main() {
	begun := ledger.Now()
	var w work
	serve := flag.String("serve", "", "the address to serve requests at")
	flag.StringVar(&w.job, "job", "", "the Job, as namespace/name")
	flag.DurationVar(&w.takes, "takes", 0, "how long it lasts")
	flag.IntVar(&w.fails, "fails", 0, "how many processes of the task are to fail")
	flag.IntVar(&w.code, "code", 1, "the exit code of a failure")
	flag.Parse()
	if *serve != "" {
		fmt.Fprintln(os.Stderr, listen(*serve))
		os.Exit(1)
	}
	index, _ := strconv.Atoi(os.Getenv("JOB_COMPLETION_INDEX"))
	entry := ledger.Register(os.Getenv("LEDGER"), process(w.job, index, os.Getenv("WORKERPOOL_ATTEMPT"), begun))
	time.Sleep(w.takes)
	code := w.exitCode(entry)
	if err := entry.End(code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		// The ledger may or may not know: whoever sees this code does.
		os.Exit(125)
	}
	os.Exit(code)
}

// process is what the ledger is told of this one.
func process(job string, index int, attempt string, begun ledger.Time) ledger.Process {
	return ledger.Process{
		ID: rand.Text(), Job: job, Index: index, Attempt: attempt, Begun: begun,
		Pod: os.Getenv("POD_NAMESPACE") + "/" + os.Getenv("POD_NAME"), PodUID: os.Getenv("POD_UID"),
	}
}

func (w work) exitCode(e *ledger.Entry) int {
	if e.Failed < w.fails {
		return w.code
	}
	return 0
}

// listen serves requests until the process is told to end.
func listen(address string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(handle), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handle does what the path's query says, and stops at once if the request is cut off.
func handle(answer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	takes, err := time.ParseDuration(query.Get("takes"))
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	fails, _ := strconv.Atoi(query.Get("fails"))
	index, _ := strconv.Atoi(request.Header.Get("Workerpool-Index"))
	w := work{job: query.Get("job"), takes: takes, fails: fails, code: 1}
	entry := ledger.Register(os.Getenv("LEDGER"), process(w.job, index, request.Header.Get("Workerpool-Attempt"), ledger.Now()))
	select {
	case <-time.After(w.takes):
	case <-request.Context().Done():
		entry.Abandon()
		return
	}
	code := w.exitCode(entry)
	if err := entry.End(code); err != nil || code != 0 {
		answer.WriteHeader(http.StatusServiceUnavailable)
	}
}
