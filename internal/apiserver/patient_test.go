package apiserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

var errDial = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

// server answers the requests from the nth on, and fails those before.
type server struct {
	n, tries int
	err      error
}

func (s *server) RoundTrip(*http.Request) (*http.Response, error) {
	if s.tries++; s.tries < s.n {
		return nil, s.err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// try makes a request of a process that goes on, and returns how long it took, and its error.
func try(ctx context.Context, t *testing.T, method string, s *server, log logr.Logger) (time.Duration, error) {
	t.Helper()
	return tryWith(ctx, t, method, Patient(t.Context(), log)(s))
}

func tryWith(ctx context.Context, t *testing.T, method string, transport http.RoundTripper) (time.Duration, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, "https://api", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return time.Since(began), err
}

func TestAReadWaitsForAServerThatCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		log := funcr.New(func(_, line string) { said = append(said, line) }, funcr.Options{})
		took, err := try(t.Context(), t, http.MethodGet, &server{n: 100, err: errDial}, log)
		if err != nil || took != 99*retryInterval {
			t.Errorf("error %v after %v", err, took)
		}
		if len(said) != 2 || !strings.Contains(said[0], "Waiting") || !strings.Contains(said[1], "again") {
			t.Errorf("the log says %q", said)
		}
	})
}

func TestWhatIsNotToWaitFailsAtOnce(t *testing.T) {
	cases := map[string]struct {
		method string
		err    error
	}{
		"a write":                    {http.MethodPut, errDial},
		"a read that may have begun": {http.MethodGet, io.ErrUnexpectedEOF},
		"a broken connection":        {http.MethodGet, &net.OpError{Op: "read", Err: errors.New("reset")}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &server{n: 2, err: c.err}
			if _, err := try(t.Context(), t, c.method, s, logr.Discard()); !errors.Is(err, c.err) || s.tries != 1 {
				t.Errorf("error %v after %d tries", err, s.tries)
			}
		})
	}
}

func TestAReadWaitsNoLongerThanItsContextAndTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if took, err := try(short, t, http.MethodGet, &server{n: 100, err: errDial}, logr.Discard()); !errors.Is(err, errDial) || took != time.Second {
			t.Errorf("error %v after %v, want that of the last try after the request's second", err, took)
		}
		process, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		transport := Patient(process, logr.Discard())(&server{n: 100, err: errDial})
		if took, err := tryWith(t.Context(), t, http.MethodGet, transport); !errors.Is(err, errDial) || took != time.Second {
			t.Errorf("error %v after %v, want that of the last try after the process's second", err, took)
		}
	})
}
