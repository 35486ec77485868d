package engine

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// indexes is how far the tasks of an indexed Job are.
type indexes struct {
	succeeded, failed indexSet
}

func (x *indexes) done() int32 { return x.succeeded.len() + x.failed.len() }

func (x *indexes) has(index int32) bool { return x.succeeded.has(index) || x.failed.has(index) }

// failure is that of the Job when all its tasks are done and some have failed.
func (x *indexes) failure(size int32) failure {
	failed := x.failed.String()
	const most = 200
	if len(failed) > most {
		failed = failed[:strings.LastIndexByte(failed[:most], ',')] + ",..."
	}
	return failure{
		reason:  v1alpha1.ReasonIndexesFailed,
		message: fmt.Sprintf("%d of %d tasks have failed: %s.", x.failed.len(), size, failed),
	}
}

// restoreIndexes takes over what the stored status tells of the tasks of a job.
func restoreIndexes(j *job, status *v1alpha1.JobStatus) *indexes {
	f := factsOf(status, j.size)
	for _, index := range slices.Sorted(maps.Keys(f.tries)) {
		j.learnTries(index, f.tries[index])
	}
	return &indexes{f.succeeded, f.failed}
}

// retried has each task that has failed and is not done, with its retries and the try that has ended last:
// `3:1:1,7:2:4`. What does not fit is left out: these tasks may be tried more often after a takeover.
func (j *job) retried() string {
	var failed []*task
	for _, t := range j.tasks {
		if t.retries > 0 {
			failed = append(failed, t)
		}
	}
	slices.SortFunc(failed, func(a, b *task) int { return cmp.Compare(a.index, b.index) })
	var b []byte
	for _, t := range failed {
		if len(b) > maxRetriedText-maxRetriedPart {
			break
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(t.index), 10)
		b = strconv.AppendInt(append(b, ':'), int64(t.retries), 10)
		b = strconv.AppendInt(append(b, ':'), int64(max(t.settled.Try, t.settledTry)), 10)
	}
	return string(b)
}

// parseRetried reads one part of what retried wrote.
func parseRetried(part string) (int32, tries, bool) {
	fields := strings.Split(part, ":")
	if len(fields) != 3 {
		return 0, tries{}, false
	}
	var n [3]int32
	for i, field := range fields {
		v, err := strconv.ParseInt(field, 10, 32)
		if err != nil || v < 0 || v > maxTry {
			return 0, tries{}, false
		}
		n[i] = int32(v)
	}
	return n[0], tries{retries: n[1], ended: n[2]}, true
}

// runningIndexes has the tasks whose process is known to run, by worker: as many as the schema takes, those that are
// recorded first. What is left out is not recorded.
func (j *job) runningIndexes() []v1alpha1.WorkerIndexes {
	var running []*task
	for _, t := range j.tasks {
		if t.attempt != nil && !t.attempt.started.IsZero() && !t.isHandler() {
			running = append(running, t)
		}
	}
	rank := func(t *task) int {
		if t.attempt.recorded {
			return 0
		}
		return 1
	}
	slices.SortFunc(running, func(a, b *task) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.index, b.index))
	})
	sets, left := map[*podWorker]*indexSet{}, map[*podWorker]int{}
	for _, t := range running {
		w, size := t.attempt.worker, len(strconv.Itoa(int(t.index)))+len(",")
		if sets[w] == nil && len(sets) < maxRunningWorkers {
			sets[w], left[w] = &indexSet{}, maxRunningIndexes
		}
		t.attempt.omitted = left[w] < size
		if !t.attempt.omitted {
			sets[w].add(t.index)
			left[w] -= size
		}
	}
	var all []v1alpha1.WorkerIndexes
	for w, set := range sets {
		all = append(all, v1alpha1.WorkerIndexes{Worker: w.name, PodUID: w.uid, Indexes: set.String()})
	}
	slices.SortFunc(all, func(a, b v1alpha1.WorkerIndexes) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.PodUID, b.PodUID))
	})
	return all
}

// Bounds of the schema on runningIndexes: workers, and characters for each.
const (
	maxRunningWorkers = 1000
	maxRunningIndexes = 4096
)

// indexSet is a set of indexes. Its zero value is empty.
type indexSet struct {
	words []uint64
	count int32
}

func (s *indexSet) len() int32 { return s.count }

func (s *indexSet) has(index int32) bool {
	word := int(index / 64)
	return word < len(s.words) && s.words[word]&(1<<(index%64)) != 0
}

func (s *indexSet) add(index int32) {
	if s.has(index) {
		return
	}
	for int(index/64) >= len(s.words) {
		s.words = append(s.words, 0)
	}
	s.words[index/64] |= 1 << (index % 64)
	s.count++
}

func (s *indexSet) clone() indexSet { return indexSet{slices.Clone(s.words), s.count} }

func (s *indexSet) remove(index int32) {
	if s.has(index) {
		s.words[index/64] &^= 1 << (index % 64)
		s.count--
	}
}

// all are the indexes in order.
func (s *indexSet) all() func(yield func(int32) bool) {
	return func(yield func(int32) bool) {
		for i, word := range s.words {
			for ; word != 0; word &= word - 1 {
				if !yield(int32(i*64 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// String has ranges of indexes: `0-4,7`.
func (s *indexSet) String() string {
	var b []byte
	first, last := int32(-1), int32(-2)
	flush := func() {
		if first < 0 {
			return
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(first), 10)
		if last > first {
			b = strconv.AppendInt(append(b, '-'), int64(last), 10)
		}
	}
	for index := range s.all() {
		if index != last+1 || first < 0 {
			flush()
			first = index
		}
		last = index
	}
	flush()
	return string(b)
}

// text is String as long as that is short, else a bitmap: `bitmap:` and the base64 of its bytes, where bit 0 of the
// first is index 0. So it has a bound, whatever is in the set.
func (s *indexSet) text() string {
	ranges := s.String()
	if len(ranges) <= maxRanges {
		return ranges
	}
	b := make([]byte, 0, 8*len(s.words))
	for _, word := range s.words {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return bitmapPrefix + base64.StdEncoding.EncodeToString(b)
}

// parse adds what String or text wrote, of indexes below the size. What is not of their form is left out: a task too
// many is run again, and nothing is lost.
func (s *indexSet) parse(text string, size int32) {
	if bitmap, ok := strings.CutPrefix(text, bitmapPrefix); ok {
		b, err := base64.StdEncoding.DecodeString(bitmap)
		for i := range int32(min(int64(size), 8*int64(len(b)))) {
			if err == nil && b[i/8]&(1<<(i%8)) != 0 {
				s.add(i)
			}
		}
		return
	}
	next := int64(0) // they ascend, so that no text takes longer than the size to read
	for part := range strings.SplitSeq(text, ",") {
		left, right, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseInt(left, 10, 32)
		last := first
		if isRange && err == nil {
			last, err = strconv.ParseInt(right, 10, 32)
		}
		if err != nil || first < next {
			continue
		}
		for i := first; i <= last && i < int64(size); i++ {
			s.add(int32(i))
		}
		next = max(first, last) + 1
	}
}
