package agent

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigFromEnviron(t *testing.T) {
	certificate, _ := newCertificate(t)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	environ := []string{
		"WORKERPOOL_ADDRESSES=10.0.0.1:9443,workerpool.svc:9443", "WORKERPOOL_CA=" + string(ca),
		"WORKERPOOL_TOKEN_FILE=/token", "WORKERPOOL_SPOOL_DIR=/workerpool/spool", "WORKERPOOL_SLOTS=3",
	}
	c, err := ConfigFromEnviron(environ)
	if err != nil {
		t.Fatal(err)
	}
	if !slicesEqual(c.Addresses, "10.0.0.1:9443", "workerpool.svc:9443") || c.Slots != 3 || c.HealthAddress != ":9808" {
		t.Errorf("config %+v", c)
	}
	_, err = ConfigFromEnviron([]string{"WORKERPOOL_SLOTS=257", "WORKERPOOL_SPOOL_DIR=spool"})
	for _, variable := range []string{envAddresses, envCA, envTokenFile, envSpoolDir, envSlots} {
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s is not in %v", variable, err)
		}
	}
}

func TestReadyFromTheFirstSessionOn(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	status := func(path string) int {
		w := httptest.NewRecorder()
		a.health.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	s := o.next()
	if status("/readyz") != http.StatusServiceUnavailable || status("/healthz") != http.StatusOK {
		t.Errorf("before: ready %d, healthy %d", status("/readyz"), status("/healthz"))
	}
	s.welcome(5)
	waitFor(t, "readiness", func() bool { return status("/readyz") == http.StatusOK })
	s.over <- nil
	o.next()
	if status("/readyz") != http.StatusOK {
		t.Error("not ready while the operator is away")
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
