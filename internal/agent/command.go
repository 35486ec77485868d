package agent

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// markVariable tells a process's attempt, for those that have left its process group.
	markVariable = "WORKERPOOL_ATTEMPT"
	// defaultPath is searched if a job's environment has no PATH.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// command is what to execute.
type command struct {
	path string
	argv []string
	// env begins with the mark.
	env []string
	// dir is the agent's own if empty.
	dir  string
	mark string
	// stdin is the content of its standard input, /dev/null if empty.
	stdin []byte
	// maxFiles limits the open files of each process, unless it is 0.
	maxFiles int32
}

// environment is what every job of a container starts from.
type environment []string

// newEnvironment takes the container's environment. Only the mark's name is not the user's.
func newEnvironment(environ []string) environment {
	var e environment
	for _, kv := range environ {
		if !strings.HasPrefix(kv, markVariable+"=") {
			e = append(e, kv)
		}
	}
	return e
}

// with returns the environment of an attempt. Its mark comes first, so that it is found without
// reading all; then TMPDIR and the job's own variables take the place of the container's.
func (e environment) with(mark, tmpDir string, own []*pb.EnvVar) []string {
	env := make([]string, 1, len(e)+len(own)+2)
	env[0] = markVariable + "=" + mark
	env = append(env, e...)
	env = set(env, "TMPDIR", tmpDir)
	for _, v := range own {
		if v.GetName() != markVariable {
			env = set(env, v.GetName(), v.GetValue())
		}
	}
	return env
}

func set(env []string, name, value string) []string {
	for i, kv := range env {
		if len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

func get(env []string, name, fallback string) string {
	for _, kv := range env {
		if key, value, _ := strings.Cut(kv, "="); key == name {
			return value
		}
	}
	return fallback
}

// newCommand finds the program of an assignment in the PATH of env. A name with a slash is taken as
// it is, relative to the directory to run in.
func newCommand(a *pb.Assignment, env []string, mark string) (command, error) {
	argv := a.GetArgv()
	if len(argv) == 0 || argv[0] == "" {
		return command{}, errors.New("exec: no command")
	}
	c := command{
		path: argv[0], argv: argv, env: env, dir: a.GetWorkingDir(), mark: mark,
		stdin: a.GetStdin(), maxFiles: a.GetMaxOpenFiles(),
	}
	if c.dir != "" {
		dir, err := filepath.Abs(c.dir)
		if err != nil {
			return command{}, err
		}
		c.dir = dir
	}
	if err := c.checkText(); err != nil {
		return command{}, err
	}
	if !strings.Contains(argv[0], "/") {
		path, err := lookPath(argv[0], get(env, "PATH", defaultPath), c.dir)
		if err != nil {
			return command{}, fmt.Errorf("exec: %q: %w", argv[0], err)
		}
		c.path = path
	}
	return c, nil
}

// checkText refuses NUL characters, which end what a program is given. The API server refuses them too, but may have
// stored a Job before it did.
func (c command) checkText() error {
	const nul = "\x00"
	for i, arg := range c.argv {
		if strings.Contains(arg, nul) {
			return fmt.Errorf("exec: a NUL character in word %d of command and args", i+1)
		}
	}
	for _, kv := range c.env {
		if strings.Contains(kv, nul) {
			name, _, _ := strings.Cut(kv, "=")
			return fmt.Errorf("exec: a NUL character in the variable %q of env", name)
		}
	}
	if strings.Contains(c.dir, nul) {
		return errors.New("exec: a NUL character in workingDir")
	}
	return nil
}

var errNotFound = errors.New("executable file not found in $PATH")

// lookPath returns the first executable file with that name, as execvp would.
func lookPath(name, path, dir string) (string, error) {
	err := errNotFound
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		candidate := filepath.Join(folder, name)
		if !strings.Contains(candidate, "/") {
			candidate = "./" + candidate
		}
		var stat unix.Stat_t
		if unix.Stat(candidate, &stat) != nil || stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
		err = fs.ErrPermission
	}
	return "", err
}

// explain gives a failed start the path that the system's message is about: a fork tells only the number.
func (c command) explain(err error) error {
	if c.dir != "" {
		if info, statErr := os.Stat(c.dir); statErr != nil || !info.IsDir() {
			return &fs.PathError{Op: "chdir", Path: c.dir, Err: err}
		}
		if unix.Access(c.dir, unix.X_OK) != nil {
			return &fs.PathError{Op: "chdir", Path: c.dir, Err: syscall.EACCES}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		interpreter := c.interpreter()
		if _, found := os.Stat(interpreter); interpreter != "" && found != nil {
			return fmt.Errorf("exec %s: its interpreter %q: %w%s", c.path, interpreter, err, carriageReturn(interpreter))
		}
	}
	return &fs.PathError{Op: "exec", Path: c.path, Err: err}
}

// interpreter returns the program that the system runs a file with: that of a script's first line, or the loader of a
// dynamic program. It is empty if there is none, or the file can't be read.
func (c command) interpreter() string {
	path := c.path
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.dir, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if program, err := elf.NewFile(file); err == nil {
		for _, part := range program.Progs {
			if part.Type == elf.PT_INTERP {
				loader, _ := io.ReadAll(io.LimitReader(part.Open(), unix.PathMax))
				return strings.TrimRight(string(loader), "\x00")
			}
		}
		return ""
	}
	// The kernel looks at no more.
	head := make([]byte, 256)
	n, _ := file.ReadAt(head, 0)
	line, script := strings.CutPrefix(string(head[:n]), "#!")
	if !script {
		return ""
	}
	line, _, _ = strings.Cut(line, "\n")
	line = strings.Trim(line, " \t")
	if end := strings.IndexAny(line, " \t"); end >= 0 {
		line = line[:end]
	}
	return line
}

// carriageReturn explains what is not seen in most editors.
func carriageReturn(interpreter string) string {
	if strings.HasSuffix(interpreter, "\r") {
		return " (the script's lines end with CR LF: save it with LF alone)"
	}
	return ""
}
