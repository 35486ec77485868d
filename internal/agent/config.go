package agent

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Flags of "agent run". The operator puts them into the worker's pod: no variable of the template, of a Service or of
// envFrom can be taken for one.
const (
	flagAddresses = "addresses"
	flagCA        = "ca"
	flagTokenFile = "token-file"
	flagSpoolDir  = "spool-dir"
	flagSlots     = "slots"
	flagReadyFile = "ready-file"
	flagHealth    = "health-address"
	flagHTTPPort  = "http-port"
	flagDrain     = "drain-socket"
	flagPool      = "pool"
	flagNamespace = "namespace"
	flagPod       = "pod"
	flagHide      = "hide"
	flagPodIPs    = "pod-ips"
)

// variables are what pods have that an operator without these flags has made. No job sees them there.
var variables = map[string]string{
	"WORKERPOOL_ADDRESSES":      flagAddresses,
	"WORKERPOOL_CA":             flagCA,
	"WORKERPOOL_TOKEN_FILE":     flagTokenFile,
	"WORKERPOOL_SPOOL_DIR":      flagSpoolDir,
	"WORKERPOOL_SLOTS":          flagSlots,
	"WORKERPOOL_HEALTH_ADDRESS": flagHealth,
	"WORKERPOOL_HTTP_PORT":      flagHTTPPort,
	"WORKERPOOL_POOL":           flagPool,
	"WORKERPOOL_POD_NAMESPACE":  flagNamespace,
	"WORKERPOOL_POD_NAME":       flagPod,
}

// maxSlots bounds the jobs of one worker, as the API does.
const maxSlots = 256

// Config is what an agent has to know. Addresses, CA, TokenFile, SpoolDir and Slots are required.
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
	// ReadyFile is there from the first session on, if it is not empty.
	ReadyFile string
	// HealthAddress is where /readyz and /healthz are served, and /drain for HTTP; nowhere if it is empty.
	HealthAddress string
	// HTTPPort is the port of the server that attempts are requests to; 0 if they are commands.
	HTTPPort int
	// PodIPs are the pod's addresses, where the server may listen if not on the loopback address.
	PodIPs []string
	// DrainSocket is where the agent is told that its pod is to end, if it is not empty.
	DrainSocket string
	// Pool, Namespace and Pod are for the log.
	Pool, Namespace, Pod string
	// Environ is the container's environment, KEY=value each, which jobs have too.
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

// ParseConfig reads the configuration that the operator gave the pod. Its error names every flag that is missing or wrong.
func ParseConfig(args, environ []string) (Config, error) {
	if len(args) == 0 {
		args, environ = fromVariables(environ)
	}
	c := Config{CA: x509.NewCertPool(), timing: defaultTiming()}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	addresses := flags.String(flagAddresses, "", "of the operator, host:port each, separated by commas")
	certificates := flags.String(flagCA, "", "certificates, in PEM, that sign the operator's")
	port := flags.Uint(flagHTTPPort, 0, "of the server that attempts are requests to")
	flags.StringVar(&c.TokenFile, flagTokenFile, "", "file with the token")
	flags.StringVar(&c.SpoolDir, flagSpoolDir, "", "folder for results")
	flags.IntVar(&c.Slots, flagSlots, 0, "how many attempts run at once")
	flags.StringVar(&c.ReadyFile, flagReadyFile, "", "file that is there from the first session on")
	flags.StringVar(&c.HealthAddress, flagHealth, "", "where probes are answered")
	flags.StringVar(&c.DrainSocket, flagDrain, "", "socket on which the end of the pod is told")
	flags.StringVar(&c.Pool, flagPool, "", "name of the pool, for the log")
	flags.StringVar(&c.Namespace, flagNamespace, "", "namespace of the pod, for the log")
	flags.StringVar(&c.Pod, flagPod, "", "name of the pod, for the log")
	podIPs := flags.String(flagPodIPs, "", "of the pod, separated by commas")
	hide := flags.String(flagHide, "", "name of a variable that no job sees")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	c.Environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, *hide+"=") })
	for address := range strings.SplitSeq(*addresses, ",") {
		if address = strings.TrimSpace(address); address != "" {
			c.Addresses = append(c.Addresses, address)
		}
	}
	for ip := range strings.SplitSeq(*podIPs, ",") {
		if address, err := netip.ParseAddr(strings.TrimSpace(ip)); err == nil { // a kubelet that knows none leaves what it was to fill in
			c.PodIPs = append(c.PodIPs, address.String())
		}
	}
	c.HTTPPort = int(min(*port, math.MaxUint16+1))
	return c, errors.Join(
		unless(flags.NArg() == 0, "the arguments", "are not only flags"),
		unless(len(c.Addresses) > 0, flagAddresses, "names no address"),
		unless(c.CA.AppendCertsFromPEM([]byte(*certificates)), flagCA, "has no certificate in PEM"),
		unless(c.TokenFile != "", flagTokenFile, "is not set"),
		unless(filepath.IsAbs(c.SpoolDir), flagSpoolDir, "is not an absolute path"),
		unless(c.Slots >= 1 && c.Slots <= maxSlots, flagSlots, "is not a number from 1 to 256"),
		unless(c.HTTPPort <= math.MaxUint16, flagHTTPPort, "is not a port"),
		unless(c.HTTPPort == 0 || c.HealthAddress != "", flagHealth, "is not set"),
	)
}

// fromVariables returns the flags for what is said in variables, and the environment without these.
func fromVariables(environ []string) (args, rest []string) {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch flag := variables[name]; {
		case flag == flagHTTPPort && strings.Contains(value, "://"): // it is a Service's
			rest = append(rest, kv)
		case flag != "":
			args = append(args, "--"+flag+"="+value)
		case name != "WORKERPOOL_DRAIN_KEY":
			rest = append(rest, kv)
		}
	}
	return args, rest
}

func unless(ok bool, what, wrong string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s %s", what, wrong)
}
