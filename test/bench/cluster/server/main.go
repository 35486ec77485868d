// The server program is a worker's HTTP server that does next to nothing, and the client that it is compared with.
//
//	/              an empty answer
//	/load?n=N&c=C  sends itself N requests, C at once, and then answers; with &close=true each has a connection of its own
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	port := flag.Int("port", 8080, "where to listen")
	flag.Parse()
	if err := serve(*port); err != nil {
		log.Fatal(err)
	}
}

func serve(port int) error {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/load", func(w http.ResponseWriter, r *http.Request) {
		n, err1 := strconv.Atoi(r.FormValue("n"))
		c, err2 := strconv.Atoi(r.FormValue("c"))
		if err1 != nil || err2 != nil {
			http.Error(w, "n and c must be numbers", http.StatusBadRequest)
			return
		}
		transport := &http.Transport{MaxIdleConnsPerHost: c, DisableKeepAlives: r.FormValue("close") == "true"}
		defer transport.CloseIdleConnections()
		if err := load(r.Context(), &http.Client{Transport: transport}, "http://"+address, n, c); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: fmt.Sprintf(":%d", port), Handler: mux, ReadHeaderTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); err != http.ErrServerClosed { //nolint:errorlint // it is returned as it is
		return err
	}
	return nil
}

// load sends so many requests, so many at once.
func load(ctx context.Context, client *http.Client, url string, n, atOnce int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range atOnce {
		group.Go(func() error {
			for range (n + i) / atOnce {
				if err := get(ctx, client, url); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}
