// Package resource has the resource controller of package worker: it gives out memory, CPU and open
// files, up to limits, all of a job's usage at once or nothing.
package resource
