package serving

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	// askWithin bounds a TLS handshake, and then the wait for a request.
	askWithin = 5 * time.Second
	// maxHeaderBytes is how long the header of a request may be, unless a server says otherwise. net/http takes 4 KiB
	// beyond it.
	maxHeaderBytes = 4 << 10
	// answerWithin is how long an answer may take, from when the request has come.
	answerWithin = 30 * time.Second
)

// Listen bounds the connections of a TCP listener: so many at once, see Places. Each counts until it is closed, or
// admitted.
func Listen(inner net.Listener, number int) net.Listener {
	return &listener{Listener: inner, places: NewPlaces(number)}
}

type listener struct {
	net.Listener

	places *Places
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: raw.(*net.TCPConn), places: l.places}
	if lost := l.places.Take(c, Host(raw.RemoteAddr().String())); lost != nil {
		_ = lost.Close()
	}
	return c, nil
}

// conn is one connection of a listener.
type conn struct {
	*net.TCPConn

	places *Places
}

// Close is net.Conn's.
func (c *conn) Close() error {
	c.places.Leave(c)
	return c.TCPConn.Close()
}

// NewServer returns a server for listeners of this package, and for TLS over them. A connection serves one request of
// HTTP/1.1, without a body, and is closed.
func NewServer(handler http.Handler) *http.Server {
	s := &http.Server{
		Handler: bodyless(handler), ConnContext: remember,
		ReadHeaderTimeout: askWithin, WriteTimeout: answerWithin, MaxHeaderBytes: maxHeaderBytes,
		// Whoever can reach the port could fill the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

// bodyless refuses requests with a body. Nobody waits for it.
func bodyless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
			http.Error(w, "no content is wanted", http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

// remember has requests find their connection.
func remember(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Admit has the connection of a request count no more, and be closed for no other. It is for requests of those who are
// known, or that are bounded otherwise.
func Admit(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.places.Leave(c)
	}
}
