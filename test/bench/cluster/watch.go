package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// event is a change of an object, and when a watcher has seen it.
type event struct {
	watch.Event
	at time.Time
}

// watcher sees the objects of one kind in the suite's namespace.
type watcher struct {
	stop   context.CancelFunc
	events chan event
	// err is why events has ended.
	err error
}

// watch begins with what changes from now on. Stop it.
func (s *suite) watch(ctx context.Context, list client.ObjectList) (*watcher, error) {
	if err := s.client.List(ctx, list, client.InNamespace(s.namespace), client.Limit(1)); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watcher{stop: stop, events: make(chan event, 16384)}
	go func() {
		defer close(w.events)
		w.err = s.follow(ctx, list, list.GetResourceVersion(), w.events)
	}()
	return w, nil
}

// follow passes events on. Under load the API server ends a watch now and then; then the next goes on, at once.
func (s *suite) follow(ctx context.Context, list client.ObjectList, version string, to chan<- event) error {
	for ctx.Err() == nil {
		watcher, err := s.client.Watch(ctx, list, client.InNamespace(s.namespace),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true}})
		if err != nil {
			return err
		}
		for e := range watcher.ResultChan() {
			if e.Type == watch.Error {
				watcher.Stop()
				return apierrors.FromObject(e.Object)
			}
			version = e.Object.(client.Object).GetResourceVersion()
			to <- event{e, time.Now()}
		}
	}
	return context.Cause(ctx)
}

// next waits for an event that is wanted.
func next[T client.Object](ctx context.Context, w *watcher, want func(watch.EventType, T) bool) (T, time.Time, error) {
	var none T
	for {
		select {
		case e, open := <-w.events:
			if !open {
				return none, time.Time{}, fmt.Errorf("watching: %w", errors.Join(w.err))
			}
			if o, ok := e.Object.(T); ok && e.Type != watch.Bookmark && want(e.Type, o) {
				return o, e.at, nil
			}
		case <-ctx.Done():
			return none, time.Time{}, context.Cause(ctx)
		}
	}
}
