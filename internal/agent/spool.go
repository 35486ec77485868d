package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	spoolFile = "results"
	// frameHeader is a frame's length and checksum, four bytes each, little-endian. A length of 0 ends
	// the file.
	frameHeader = 8
	// maxFrame is more than the largest result takes, in bytes.
	maxFrame = 64 << 10
	// maxUID and maxName bound what names a job, in bytes.
	maxUID, maxName = 64, 253
	// shrinkBytes is when a file in which nothing is needed is emptied, compactBytes when one is written
	// anew: more than 1,000 results take.
	shrinkBytes  = 1 << 20
	compactBytes = 16 << 20
)

// A frame's first byte tells what follows it.
const (
	frameResult  = 'r' // a Result
	frameSettled = 's' // the Token of one that is no longer needed
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// spool keeps results in a file until they are settled, so that they outlive the container. It is one
// file that grows, since making a file for each takes as long as running a short job. Nothing is synced:
// a result that is lost with the node is that of an attempt whose worker is lost.
//
// In a Result of the file, started_ago and ended_ago are not ages but times since 1970.
type spool struct {
	mu     sync.Mutex
	volume *volume
	// folder is the file's in the volume.
	folder string
	file   *os.File
	// info tells whether the file is still where it was.
	info os.FileInfo
	// size is where the next frame goes. What is behind it is left of a write that failed.
	size int64
	// frames are those of results that are not settled.
	frames map[token]frame
}

type frame struct {
	offset int64
	length int
}

// openSpool returns the results that an earlier run of the agent has left. What can't be read is logged
// and given up.
func openSpool(dir string, log *slog.Logger) (*spool, []*result, error) {
	v, err := openVolume(filepath.Dir(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("open the spool's volume: %w", err)
	}
	s := &spool{volume: v, folder: filepath.Base(dir), frames: map[token]frame{}}
	if err := s.open(spoolFile); err != nil {
		return nil, nil, fmt.Errorf("open the spool: %w", err)
	}
	results, err := s.load(log)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read the spool: %w", err), s.file.Close())
	}
	return s, results, nil
}

func (s *spool) open(name string) error {
	file, err := s.volume.file(s.folder, name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.file, s.info = file, info
	return nil
}

func (s *spool) close() { _ = s.file.Close() }

func (s *spool) load(log *slog.Logger) ([]*result, error) {
	results := map[token]*result{}
	in := io.NewSectionReader(s.file, 0, 2*compactBytes) // it never becomes as long
	dropped := 0
	for {
		content, err := readFrame(in)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				log.Error("The spool is damaged: results behind this place are lost", "offset", s.size, "error", err)
			}
			break
		}
		r, settled, err := decodeFrame(content)
		switch {
		case err != nil:
			if dropped++; dropped == 1 { // the file may be full of them
				log.Error("Dropped a result from the spool", "offset", s.size, "error", err)
			}
		case r != nil && len(results) == maxResults:
			if dropped++; dropped == 1 {
				log.Error("Dropped a result from the spool: it has more than an agent keeps", "offset", s.size)
			}
		case r != nil:
			results[r.token] = r
			s.frames[r.token] = frame{s.size, frameHeader + len(content)}
		default:
			delete(results, settled)
			delete(s.frames, settled)
		}
		s.size += int64(frameHeader + len(content))
	}
	all := make([]*result, 0, len(results))
	for _, r := range results {
		r.spooled = true
		all = append(all, r)
	}
	return all, s.file.Truncate(s.size)
}

// readFrame returns a frame's content, or io.EOF behind the last.
func readFrame(in io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return nil, err
	}
	length, sum := binary.LittleEndian.Uint32(header[:]), binary.LittleEndian.Uint32(header[4:])
	if length == 0 {
		return nil, io.EOF
	}
	if length > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", length)
	}
	content := make([]byte, length)
	if n, err := io.ReadFull(in, content); err != nil {
		return nil, fmt.Errorf("a frame of %d bytes has %d", length, n)
	}
	if crc32.Checksum(content, castagnoli) != sum {
		return nil, errors.New("a frame's checksum is wrong")
	}
	return content, nil
}

// write keeps r.
func (s *spool) write(r *result) error {
	content, err := encodeResult(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size >= compactBytes || !s.inPlaceLocked() {
		if err := s.rewriteLocked(); err != nil {
			return err
		}
	}
	offset := s.size
	if err := s.appendLocked(content); err != nil {
		return err
	}
	s.frames[r.token] = frame{offset, len(content)}
	return nil
}

// forget drops settled results. If it fails, they may appear again after a restart.
func (s *spool) forget(results []*result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var content []byte
	for _, r := range results {
		if _, ok := s.frames[r.token]; !ok {
			continue
		}
		delete(s.frames, r.token)
		tok, err := proto.MarshalOptions{}.MarshalAppend([]byte{frameSettled}, r.token.proto())
		if err != nil {
			return fmt.Errorf("encode a token: %w", err)
		}
		content = append(content, seal(append(make([]byte, frameHeader), tok...))...)
	}
	if len(s.frames) > 0 || s.size < shrinkBytes {
		return s.appendLocked(content)
	}
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	s.size = 0
	return nil
}

// probe returns an error if there is no room for a result of common size now.
func (s *spool) probe() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.inPlaceLocked() {
		if err := s.rewriteLocked(); err != nil {
			return err
		}
	}
	_, err := s.file.WriteAt(make([]byte, 2*tailBytes), s.size)
	return err
}

// appendLocked writes whole frames. A part of them that was written before an error is written over by
// the next, and fails its checksum until then.
func (s *spool) appendLocked(content []byte) error {
	n, err := s.file.WriteAt(content, s.size)
	if err != nil {
		return fmt.Errorf("spool a result: %w", err)
	}
	s.size += int64(n)
	return nil
}

// inPlaceLocked returns whether the file is still the one that a later run of the agent would read: a job may have
// removed it.
func (s *spool) inPlaceLocked() bool {
	info, err := s.volume.root.Lstat(filepath.Join(s.folder, spoolFile))
	return err == nil && os.SameFile(info, s.info)
}

// rewriteLocked writes the file anew, with what is still needed. If it fails, it leaves nothing behind.
func (s *spool) rewriteLocked() error {
	const part = spoolFile + ".part"
	next := &spool{volume: s.volume, folder: s.folder, frames: make(map[token]frame, len(s.frames))}
	if err := next.open(part); err != nil {
		return fmt.Errorf("rewrite the spool: %w", err)
	}
	err := next.file.Truncate(0)
	for tok, f := range s.frames {
		if err != nil {
			break
		}
		_, err = io.Copy(io.NewOffsetWriter(next.file, next.size), io.NewSectionReader(s.file, f.offset, int64(f.length)))
		next.frames[tok] = frame{next.size, f.length}
		next.size += int64(f.length)
	}
	if err == nil {
		err = next.moveTo(part, spoolFile)
	}
	if err != nil { // the disk may be full, and what is written of it would take more of it
		return errors.Join(fmt.Errorf("rewrite the spool: %w", err), next.file.Close(), s.volume.clear(filepath.Join(s.folder, part)))
	}
	_ = s.file.Close()
	s.file, s.info, s.frames, s.size = next.file, next.info, next.frames, next.size
	return nil
}

// moveTo gives the file another name, whatever had that.
func (s *spool) moveTo(from, to string) error {
	from, to = filepath.Join(s.folder, from), filepath.Join(s.folder, to)
	if err := s.volume.root.Rename(from, to); err == nil {
		return nil
	}
	return errors.Join(s.volume.clear(to), s.volume.root.Rename(from, to))
}

// seal fills in the header of a frame.
func seal(f []byte) []byte {
	binary.LittleEndian.PutUint32(f, uint32(len(f)-frameHeader))
	binary.LittleEndian.PutUint32(f[4:], crc32.Checksum(f[frameHeader:], castagnoli))
	return f
}

func encodeResult(r *result) ([]byte, error) {
	p := r.proto()
	p.StartedAgo, p.EndedAgo = durationpb.New(sinceEpoch(r.started)), durationpb.New(sinceEpoch(r.ended))
	f := append(make([]byte, frameHeader, 256+len(r.output)), frameResult)
	f, err := proto.MarshalOptions{}.MarshalAppend(f, p)
	if err != nil {
		return nil, fmt.Errorf("encode a result: %w", err)
	}
	return seal(f), nil
}

// decodeFrame returns a result, or the token of one that is settled.
func decodeFrame(content []byte) (*result, token, error) {
	switch kind, content := content[0], content[1:]; kind {
	case frameResult:
		r, err := decodeResult(content)
		return r, token{}, err
	case frameSettled:
		var tok pb.Token
		err := proto.Unmarshal(content, &tok)
		return nil, tokenOf(&tok), err
	default:
		return nil, token{}, fmt.Errorf("a frame of the unknown kind %q", kind)
	}
}

func decodeResult(content []byte) (*result, error) {
	var p pb.Result
	if err := proto.Unmarshal(content, &p); err != nil {
		return nil, fmt.Errorf("decode a result: %w", err)
	}
	switch {
	case p.GetToken().GetJobUid() == "" || pb.Outcome_name[int32(p.GetOutcome())] == "" || p.GetOutcome() == pb.Outcome_OUTCOME_UNSPECIFIED:
		return nil, errors.New("decode a result: it is not whole")
	case len(p.GetToken().GetJobUid()) > maxUID || len(p.GetJobName()) > maxName || len(p.GetMessage()) > 3*maxMessage || len(p.GetOutput()) > tailBytes:
		return nil, errors.New("decode a result: it is larger than one can be")
	case p.GetToken().GetIndex() < 0 || p.GetToken().GetTry() < 0:
		return nil, errors.New("decode a result: it has no token")
	}
	return &result{
		token:          tokenOf(p.GetToken()),
		proof:          p.GetToken().GetProof(),
		jobName:        p.GetJobName(),
		outcome:        p.GetOutcome(),
		exitCode:       p.GetExitCode(),
		message:        p.GetMessage(),
		output:         p.GetOutput(),
		started:        time.Unix(0, 0).Add(p.GetStartedAgo().AsDuration()),
		ended:          time.Unix(0, 0).Add(p.GetEndedAgo().AsDuration()),
		cpuTime:        p.GetCpuTime().AsDuration(),
		maxMemoryBytes: p.GetMaxMemoryBytes(),
		httpStatus:     p.GetHttpStatus(),
		signal:         p.GetSignal(),
	}, nil
}

// sinceEpoch is by the wall clock.
func sinceEpoch(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }
