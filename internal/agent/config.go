package agent

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The operator sets these in the worker's pod. They are for the agent alone: no job sees them.
const (
	envPrefix    = "WORKERPOOL_"
	envAddresses = envPrefix + "ADDRESSES"
	envCA        = envPrefix + "CA"
	envTokenFile = envPrefix + "TOKEN_FILE"
	envSpoolDir  = envPrefix + "SPOOL_DIR"
	envSlots     = envPrefix + "SLOTS"
	envHealth    = envPrefix + "HEALTH_ADDRESS"
	envHTTPPort  = envPrefix + "HTTP_PORT"
	envDrainKey  = envPrefix + "DRAIN_KEY"
)

const defaultHealthAddress = ":9808"

// maxSlots bounds the jobs of one worker, as the API does.
const maxSlots = 256

// Config is what an agent has to know. All fields are required, but for those of HTTP.
type Config struct {
	// Addresses of the operator, host:port each, dialled in turn.
	Addresses []string
	// CA has the only certificates that the operator's may be signed by.
	CA *x509.CertPool
	// TokenFile holds the bearer token; it is read anew at each dial.
	TokenFile string
	// SpoolDir keeps results until the operator has stored them. Attempts get their TMPDIR in the
	// folder tmp beside it, which the agent empties when it starts.
	SpoolDir string
	// Slots is how many attempts may run at once.
	Slots int
	// HealthAddress is where /readyz and /healthz are served, and /drain for HTTP.
	HealthAddress string
	// HTTPPort is the port of the server that attempts are requests to; 0 if they are commands.
	HTTPPort int
	// DrainKey is what a request to /drain must know. It is required where there is a port.
	DrainKey string
	// Environ is the container's environment, KEY=value each.
	Environ []string
	// Version of the program, for people.
	Version string

	timing timing
}

// timing has the durations that the operator does not decide.
type timing struct {
	// answer bounds the wait for a host to take a connection: where the pod of a leader that has ended is gone, nobody
	// refuses one.
	answer time.Duration
	// connect bounds a try to reach the operator, welcome the wait for its answer to a Hello: it has to
	// ask others who the agent is.
	connect, welcome time.Duration
	// retryMin and retryMax bound the pause between two tries. The pause in dispatch while one operator follows another
	// is as much longer.
	retryMin, retryMax time.Duration
	// fence holds until the first Welcome tells another.
	fence time.Duration
	// forget is after how long without an acceptable leader the highest epoch is forgotten.
	forget time.Duration
	// begun is how long after an attempt's start it is reported, unless a report goes out before: that
	// of a short attempt's end tells all.
	begun time.Duration
	// clean bounds the killing of what an attempt has left behind.
	clean time.Duration
	// drain bounds the wait for the log to take an ended attempt's last output.
	drain time.Duration
}

func defaultTiming() timing {
	return timing{
		answer:   500 * time.Millisecond,
		connect:  2 * time.Second,
		welcome:  10 * time.Second,
		retryMin: 100 * time.Millisecond,
		retryMax: 250 * time.Millisecond,
		fence:    20 * time.Second,
		forget:   60 * time.Second,
		begun:    20 * time.Millisecond,
		clean:    10 * time.Second,
		drain:    5 * time.Second,
	}
}

// ConfigFromEnviron reads the configuration that the operator gave the pod. Its error names every
// variable that is missing or wrong.
func ConfigFromEnviron(environ []string) (Config, error) {
	vars := map[string]string{}
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		vars[key] = value
	}
	c := Config{
		TokenFile:     vars[envTokenFile],
		SpoolDir:      vars[envSpoolDir],
		HealthAddress: vars[envHealth],
		DrainKey:      vars[envDrainKey],
		CA:            x509.NewCertPool(),
		Environ:       environ,
		timing:        defaultTiming(),
	}
	for address := range strings.SplitSeq(vars[envAddresses], ",") {
		if address = strings.TrimSpace(address); address != "" {
			c.Addresses = append(c.Addresses, address)
		}
	}
	if c.HealthAddress == "" {
		c.HealthAddress = defaultHealthAddress
	}
	certificates := c.CA.AppendCertsFromPEM([]byte(vars[envCA]))
	slots, err := strconv.Atoi(vars[envSlots])
	c.Slots = slots
	port, portErr := strconv.ParseUint(cmp.Or(vars[envHTTPPort], "0"), 10, 16)
	c.HTTPPort = int(port)
	return c, errors.Join(
		unless(len(c.Addresses) > 0, envAddresses, "names no address"),
		unless(certificates, envCA, "has no certificate in PEM"),
		unless(c.TokenFile != "", envTokenFile, "is not set"),
		unless(filepath.IsAbs(c.SpoolDir), envSpoolDir, "is not an absolute path"),
		unless(err == nil && slots >= 1 && slots <= maxSlots, envSlots, "is not a number from 1 to 256"),
		unless(portErr == nil, envHTTPPort, "is not a port"),
		unless(port == 0 || c.DrainKey != "", envDrainKey, "is not set"),
	)
}

func unless(ok bool, variable, wrong string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s %s", variable, wrong)
}
