package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var env *testutil.Environment

func TestMain(m *testing.M) { os.Exit(testutil.Run(m, &env, nil)) }

// patience is how long a test waits for what should come within a moment.
const patience = 10 * time.Second

// starter is a manager of one server, which it starts at once. It stops it at the end of the test, or before.
type starter struct {
	t       *testing.T
	address string
	stop    func()
}

// Add is Adder's.
func (s *starter) Add(runnable manager.Runnable) error {
	server := runnable.(*manager.Server)
	if server.NeedLeaderElection() {
		s.t.Error("the server waits for the lead")
	}
	server.Server.ReadHeaderTimeout = time.Hour // nothing here may depend on it
	s.address = server.Listener.Addr().String()
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Start(ctx); err != nil {
			s.t.Error(err)
		}
	})
	s.stop = func() { stop(); running.Wait() }
	s.t.Cleanup(func() { s.stop(); _ = server.Server.Close() })
	return nil
}

// fixture is a server of metrics beside a real API server.
type fixture struct {
	t       *testing.T
	readers *Readers
	address string
	// reviews counts what the API server is asked. While err is not nil it can't be reached.
	reviews atomic.Int32
	err     atomic.Pointer[error]
	// slow, if there is one, holds up reviews of tokens that say so, until it is closed.
	slow chan struct{}
	// later is added to the time.
	later atomic.Int64
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	counting, err := client.NewWithWatch(env.Config, client.Options{Scheme: testutil.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	reviews := interceptor.NewClient(counting, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			f.reviews.Add(1)
			if err := f.err.Load(); err != nil {
				return *err
			}
			if r, ok := obj.(*authenticationv1.TokenReview); ok && strings.HasPrefix(r.Spec.Token, "slow") {
				<-f.slow
			}
			return c.Create(ctx, obj, opts...)
		},
	})
	published, err := discovery.NewDiscoveryClientForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	keys := &issuer.Keys{Fetch: func(ctx context.Context) ([]byte, error) {
		return published.RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
	}}
	f.readers = NewReaders(reviews, keys, func() time.Time { return time.Now().Add(time.Duration(f.later.Load())) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "test_metric", Help: "One."}))
	s := &starter{t: t}
	if err := ServeMetrics(s, "127.0.0.1:0", registry, f.readers); err != nil {
		t.Fatal(err)
	}
	f.address = s.address
	return f
}

// account makes a service account, which may read the metrics or not, and returns its token for this audience.
func (f *fixture) account(mayRead bool, audiences ...string) string {
	f.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace(f.t, nil), Name: "reader"}}
	objects := []client.Object{account}
	if mayRead {
		objects = append(objects, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: account.Namespace},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
		}, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account.Namespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account.Namespace},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
		})
	}
	for _, o := range objects {
		if err := env.Client.Create(f.t.Context(), o); err != nil {
			f.t.Fatal(err)
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	if err := env.Client.SubResource("token").Create(f.t.Context(), account, request); err != nil {
		f.t.Fatal(err)
	}
	return request.Status.Token
}

// forge makes a token that names the key of another, as if the API server had signed it.
func (f *fixture) forge(like string) string {
	f.t.Helper()
	genuine, err := issuer.Parse(like)
	if err != nil {
		f.t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: genuine.Headers[0].KeyID}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	forged, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: "system:serviceaccount:ns:reader"}).Serialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return forged
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// read asks for the metrics from an address of this machine.
func (f *fixture) read(from, authorization string) answer {
	f.t.Helper()
	transport := &http.Transport{
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // it is signed by nobody
		DisableKeepAlives: true,
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+f.address+"/metrics", http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		f.t.Errorf("no answer: %v", err)
		return answer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Error(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

const (
	here      = "127.0.0.2"
	elsewhere = "127.0.0.3"
)
