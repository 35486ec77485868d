package admin

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/internal/fair"
	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/serving"
)

// Bounds on what the API server is asked about those who want to read metrics, at once and a second. A scraper that may
// read them costs two requests a minute.
const (
	reviewsAtOnce = 8
	reviewRate    = 20
	reviewBurst   = 40
	// reviewTimeout bounds all that is asked about one request, and the wait for its turn.
	reviewTimeout = 10 * time.Second
	// maxTokenBytes bounds what is looked at; a service account's token has about 1,000.
	maxTokenBytes = 12 << 10
	// allowedFor is how long it is remembered that a token is good and may read.
	allowedFor = time.Minute
)

// readerBound is for one service account, or one address whose tokens can't be told from made-up ones.
var readerBound = fair.Bound{PerSecond: 1, Burst: 10, AtOnce: 2}

// Readers are those who may read the metrics: the API server says so. Whoever makes up tokens costs it little, and keeps
// out nobody else.
type Readers struct {
	// reviews creates TokenReviews and SubjectAccessReviews, whoever leads.
	reviews client.Client
	keys    *issuer.Keys
	clock   func() time.Time
	tries   *fair.Tries
	// genuine are the requests for tokens that the API server has signed, unknown those for others.
	genuine, unknown *fair.Turns

	// mu guards what follows.
	mu sync.Mutex
	// allowed are the hashes of tokens that may read, and until when that is believed.
	allowed map[[sha256.Size]byte]time.Time
}

// NewReaders returns the readers that an API server knows.
func NewReaders(reviews client.Client, keys *issuer.Keys, clock func() time.Time) *Readers {
	return &Readers{
		reviews: reviews, keys: keys, clock: clock, tries: fair.NewTries(clock),
		genuine: fair.NewTurns(reviewsAtOnce, reviewRate, reviewBurst),
		unknown: fair.NewTurns(reviewsAtOnce, reviewRate, reviewBurst),
		allowed: map[[sha256.Size]byte]time.Time{},
	}
}

// guard lets readers through. All others get 401 or 403, or 429 and 503 if they should come again.
func (a *Readers) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := a.judge(r)
		switch status {
		case http.StatusOK:
			serving.Admit(r)
			next.ServeHTTP(w, r)
			return
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, http.StatusText(status), status)
	})
}

// judge is the status that a request gets, OK if it may be answered.
func (a *Readers) judge(r *http.Request) int {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxTokenBytes {
		return http.StatusUnauthorized
	}
	if a.isAllowed(token) {
		return http.StatusOK
	}
	party, turns := "address "+serving.Host(r.RemoteAddr), a.unknown
	switch origin, subject := a.origin(token); origin {
	case issuer.Forged:
		return http.StatusUnauthorized
	case issuer.Genuine:
		party, turns = "subject "+subject, a.genuine
	case issuer.Unknown:
	}
	end, ok := a.tries.Begin(party, readerBound)
	if !ok {
		return http.StatusTooManyRequests
	}
	defer end()
	if turns == a.genuine {
		serving.Admit(r) // readerBound bounds them now
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	status, err := a.review(ctx, party, turns, token)
	if err != nil {
		logf.Log.WithName("metrics").Info("Could not ask the API server about a token", "error", err.Error())
		return http.StatusServiceUnavailable
	}
	if status == http.StatusOK {
		a.allow(token)
	}
	return status
}

// origin checks who has signed a token, and for whom. What is no token of a service account, as of an identity provider
// or a file, is for the API server to judge.
func (a *Readers) origin(token string) (issuer.Origin, string) {
	parsed, err := issuer.Parse(token)
	if err != nil {
		return issuer.Unknown, ""
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return issuer.Unknown, ""
	}
	return a.keys.Origin(parsed, a.clock()), claims.Subject
}

// review asks the API server whether a token is good, and whether its user may read.
func (a *Readers) review(ctx context.Context, party string, turns *fair.Turns, token string) (int, error) {
	who := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := turns.Do(ctx, party, func() error { return a.reviews.Create(ctx, who) }); err != nil {
		return 0, err
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.Status.User.Username, UID: who.Status.User.UID, Groups: who.Status.User.Groups, Extra: extraOf(who.Status.User),
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: metricsPath},
	}}
	if err := turns.Do(ctx, party, func() error { return a.reviews.Create(ctx, may) }); err != nil {
		return 0, err
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}

func extraOf(user authenticationv1.UserInfo) map[string]authorizationv1.ExtraValue {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	return extra
}

func (a *Readers) isAllowed(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clock().Before(a.allowed[sha256.Sum256([]byte(token))])
}

// allow remembers a token. There are few, because only those count that may read.
func (a *Readers) allow(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	for hash, until := range a.allowed {
		if !now.Before(until) {
			delete(a.allowed, hash)
		}
	}
	a.allowed[sha256.Sum256([]byte(token))] = now.Add(allowedFor)
}
