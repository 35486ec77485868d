package main

import "context"

// row is a part of the table that is measured together.
type row struct {
	name string
	// scale: it takes long.
	scale   bool
	measure func(context.Context, *suite) ([]measurement, error)
}

var rows = []row{
	{name: "create_to_start", measure: createToStart},
	{name: "create_to_complete", measure: createToComplete},
	{name: "jobs_per_second", measure: jobsPerSecond},
	{name: "tasks_per_second", measure: tasksPerSecond},
	{name: "http_tasks_per_second", measure: httpTasksPerSecond},
	{name: "writes_per_job", measure: writesPerJob},
	{name: "engine_ops", measure: engineOps},
	{name: "many_workers", scale: true, measure: manyWorkers},
	{name: "recover", scale: true, measure: recoverRow},
	{name: "operator_bytes_per_queued_job", scale: true, measure: bytesPerQueuedJob},
}
