package resource

import (
	"fmt"
	"strconv"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Names of resources, as errors have them.
const (
	Memory = "memory"
	CPU    = "cpu"
	Files  = "files"
)

// TooLargeError says which resource was asked beyond its limit. It is a worker.ErrTooLarge.
type TooLargeError struct {
	// Resource is Memory, CPU or Files; the first of them if it is several.
	Resource string

	// Want and Limit are in bytes, billionths of a core, or files.
	Want, Limit int64
}

// Error has the numbers in the units of worker.ResourceUsage.
func (e *TooLargeError) Error() string {
	switch e.Resource {
	case Memory:
		return fmt.Sprintf("memory: %d bytes asked, limit %d", e.Want, e.Limit)
	case CPU:
		return fmt.Sprintf("cpu: %s cores asked, limit %s", cores(e.Want), cores(e.Limit))
	default:
		return fmt.Sprintf("%s: %d asked, limit %d", e.Resource, e.Want, e.Limit)
	}
}

// Unwrap returns worker.ErrTooLarge.
func (e *TooLargeError) Unwrap() error {
	return worker.ErrTooLarge
}

func cores(billionths int64) string {
	return strconv.FormatFloat(float64(billionths)/billion, 'f', -1, 64)
}

// checkLimits returns a *TooLargeError if want can't be had even when nothing is in use.
func checkLimits(want, limits amounts) error {
	switch {
	case want.memory > limits.memory:
		return &TooLargeError{Memory, want.memory, limits.memory}
	case want.cpu > limits.cpu:
		return &TooLargeError{CPU, want.cpu, limits.cpu}
	case want.files > limits.files:
		return &TooLargeError{Files, want.files, limits.files}
	}
	return nil
}
