package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func testCA(t *testing.T) string {
	t.Helper()
	certificate, _ := newCertificate(t)
	return pemOf(certificate)
}

func TestParseConfig(t *testing.T) {
	required := []string{
		"--addresses=10.0.0.1:9443,workerpool.svc:9443", "--ca=" + testCA(t), "--token-file=/token", "--spool-dir=/workerpool/spool", "--slots=3",
	}
	with := func(more ...string) []string { return append(slices.Clone(required), more...) }
	// No variable is a flag, whatever it is called.
	environ := []string{"WORKERPOOL_SLOTS=7", "WORKERPOOL_HTTP_PORT=tcp://10.0.0.1:80", "WORKERPOOL_CA=own", "slots=9"}
	c, err := ParseConfig(required, environ)
	if err != nil {
		t.Fatal(err)
	}
	if !slicesEqual(c.Addresses, "10.0.0.1:9443", "workerpool.svc:9443") || c.Slots != 3 || c.HealthAddress != "" || c.HTTPPort != 0 || !slicesEqual(c.Environ, environ...) {
		t.Errorf("config %+v", c)
	}
	c, err = ParseConfig(with("--http-port=8080", "--health-address=:9808", "--hide=WORKERPOOL_SLOTS"), environ)
	if err != nil || c.HTTPPort != 8080 || c.HealthAddress != ":9808" || !slicesEqual(c.Environ, environ[1:]...) {
		t.Errorf("config %+v, error %v", c, err)
	}
	for given, want := range map[string][]string{"10.0.0.7,fd00::7": {"10.0.0.7", "fd00::7"}, "": nil, "$(WORKERPOOL_POD_IPS)": nil} {
		if c, err := ParseConfig(with("--pod-ips="+given), nil); err != nil || !slicesEqual(c.PodIPs, want...) {
			t.Errorf("%q: addresses %q, error %v", given, c.PodIPs, err)
		}
	}
	for _, wrong := range []string{"--http-port=8080", "--http-port=65536", "--http-port=http", "--slots=0", "--slots=257", "--spool-dir=spool", "--unknown", "more"} {
		if _, err := ParseConfig(with(wrong), nil); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	_, err = ParseConfig([]string{"--slots=257"}, nil)
	for _, flag := range []string{flagAddresses, flagCA, flagTokenFile, flagSpoolDir, flagSlots} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in %v", flag, err)
		}
	}
}

// Pods that an operator before the flags has made have variables.
func TestParseConfigOfAnOlderPod(t *testing.T) {
	c, err := ParseConfig(nil, []string{
		"OWN=x", "WORKERPOOL_ADDRESSES=10.0.0.1:9443", "WORKERPOOL_CA=" + testCA(t), "WORKERPOOL_TOKEN_FILE=/token", "WORKERPOOL_SPOOL_DIR=/workerpool/spool",
		"WORKERPOOL_SLOTS=3", "WORKERPOOL_HEALTH_ADDRESS=:9808", "WORKERPOOL_POOL=p", "WORKERPOOL_POD_NAME=p-0", "WORKERPOOL_POD_NAMESPACE=n",
		"WORKERPOOL_HTTP_PORT=tcp://10.0.0.1:80", "WORKERPOOL_DRAIN_KEY=key", "WORKERPOOL_MODE=own",
	})
	if err != nil || c.Slots != 3 || c.HealthAddress != ":9808" || c.HTTPPort != 0 || c.Pod != "p-0" || c.Namespace != "n" || c.Pool != "p" {
		t.Errorf("config %+v, error %v", c, err)
	}
	if !slicesEqual(c.Environ, "OWN=x", "WORKERPOOL_HTTP_PORT=tcp://10.0.0.1:80", "WORKERPOOL_MODE=own") {
		t.Errorf("jobs have %q", c.Environ)
	}
}

func TestReadyFromTheFirstSessionOn(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	if err := os.WriteFile(c.ReadyFile, nil, 0o644); err != nil { // of an earlier run
		t.Fatal(err)
	}
	ready := func() bool { _, err := os.Stat(c.ReadyFile); return err == nil }
	runAgent(t, c, &lockedBuffer{})
	s := o.next()
	if ready() {
		t.Error("ready before the first session")
	}
	s.welcome(5)
	waitFor(t, "readiness", ready)
	s.over <- nil
	o.next()
	if !ready() {
		t.Error("not ready while the operator is away")
	}
}

func TestFarewell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	why := errors.New("open the volume for TMPDIRs: mkdir /workerpool: read-only file system")
	if err := Farewell(path, why); err == nil {
		t.Error("made a file outside of a pod")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("of an earlier end ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Farewell(path, why); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); string(got) != why.Error() {
		t.Errorf("left %q, error %v", got, err)
	}
}

func TestInstall(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(dest, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Install(dest); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(self)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(dest)
	if err != nil || got.Size() != want.Size() || got.Mode() != 0o755 {
		t.Errorf("installed %v, error %v", got, err)
	}
	if err := Install(filepath.Join(dest, "below-a-file")); err == nil {
		t.Error("installed below a file")
	}
}
