package v1alpha1

// Labels and annotations on worker pods. The operator sets them; whoever changes one by hand
// has the pod replaced.
const (
	// LabelPool is the name of the WorkerPool that a worker pod belongs to.
	LabelPool = "workerpool.dev/pool"

	// LabelOrdinal is the worker's ordinal: the number at the end of the pod's name.
	LabelOrdinal = "workerpool.dev/ordinal"

	// LabelTemplateHash identifies the template, container and handler that a worker pod was
	// made from. Pods with another hash than the pool's are out of date.
	LabelTemplateHash = "workerpool.dev/template-hash"
)

// Installation is the annotation of WorkerPools, and the label of worker pods, that names the installation of the operator
// that they belong to: the namespace that it runs in. A WorkerPool without it belongs to the first operator that sees it.
const Installation = "workerpool.dev/installation"

// InstalledBy tells whether the pool belongs to an installation.
func (p *WorkerPool) InstalledBy(installation string) bool {
	return p.Annotations[Installation] == installation
}

// InstalledElsewhere tells whether the pool belongs to another installation. A
// pool that nobody has taken yet belongs to none.
func (p *WorkerPool) InstalledElsewhere(installation string) bool {
	return p.Annotations[Installation] != "" && !p.InstalledBy(installation)
}

// Finalizer is on each WorkerPool, so that its workers drain before it goes.
const Finalizer = "workerpool.dev/drain"
