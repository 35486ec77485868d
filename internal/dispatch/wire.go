package dispatch

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// Bounds on what an agent may say. A correct agent never meets them.
const (
	maxRunning      = 1024
	maxResults      = 2048
	uidBytes        = 36
	maxInstance     = 64
	maxNameBytes    = 253
	maxMessageChars = 1024
	maxOutputBytes  = 4096
	maxExitCode     = 255
	exitOfSignal    = 128
	// maxEventChars is such that an event takes them, with what else it says. So is why an agent is draining.
	maxEventChars = 200
)

func fromHello(identity Identity, h *dispatchpb.Hello, p prover) (engine.Hello, error) {
	running, results, err := fromState(p, h.GetRunning(), h.GetResults())
	if err != nil {
		return engine.Hello{}, err
	}
	if len(h.GetInstance()) > maxInstance {
		return engine.Hello{}, grpcstatus.Error(codes.InvalidArgument, "the instance is too long")
	}
	return engine.Hello{
		Pool: identity.Pool, PoolUID: identity.PoolUID, Pod: identity.PodUID, PodName: identity.PodName,
		Instance: h.GetInstance(), Proves: identity.Proves, Running: running, Results: results, Draining: h.GetDraining(),
		Unavailable: forPeople(h.GetUnavailable()), Resets: fromResets(h),
	}, nil
}

func fromReport(r *dispatchpb.Report, p prover) (engine.Report, error) {
	if r == nil {
		return engine.Report{}, grpcstatus.Error(codes.InvalidArgument, "a message after the first must be a Report")
	}
	running, results, err := fromState(p, r.GetRunning(), r.GetResults())
	if err != nil {
		return engine.Report{}, err
	}
	return engine.Report{
		Seen: r.GetSeen(), Running: running, Results: results, Draining: r.GetDraining(),
		Unavailable: forPeople(r.GetUnavailable()), Resets: fromResets(r),
	}, nil
}

// fromResets reads what a Hello or a Report says of resets.
func fromResets(m interface {
	GetResetting() uint32
	GetResetFailure() string
}) engine.Resets {
	return engine.Resets{Running: int(min(m.GetResetting(), maxRunning)), Failure: forPeople(m.GetResetFailure())}
}

// forPeople is a text that fits into an event.
func forPeople(text string) string { return head(printable(text), maxEventChars) }

func fromState(p prover, running []*dispatchpb.Running, results []*dispatchpb.Result) ([]engine.Running, []engine.Result, error) {
	if len(running) > maxRunning || len(results) > maxResults {
		return nil, nil, grpcstatus.Errorf(codes.InvalidArgument, "%d running and %d results are too many", len(running), len(results))
	}
	var outRunning []engine.Running
	for _, r := range running {
		token, err := fromToken(r.GetToken(), r.GetJobName())
		if err != nil {
			return nil, nil, err
		}
		outRunning = append(outRunning, engine.Running{Token: token, JobName: r.GetJobName(), StartedAgo: ago(r.GetStartedAgo()), Pending: r.GetPending(), Memory: max(0, r.GetMemoryBytes()),
			Proven: p.proves(token, r.GetToken().GetProof())})
	}
	var outResults []engine.Result
	for _, r := range results {
		result, err := fromResult(r, p)
		if err != nil {
			return nil, nil, err
		}
		outResults = append(outResults, result)
	}
	return outRunning, outResults, nil
}

var outcomes = map[dispatchpb.Outcome]engine.Outcome{
	dispatchpb.Outcome_OUTCOME_EXITED:            engine.Exited,
	dispatchpb.Outcome_OUTCOME_CANNOT_START:      engine.CannotStart,
	dispatchpb.Outcome_OUTCOME_KILLED:            engine.Killed,
	dispatchpb.Outcome_OUTCOME_INTERRUPTED:       engine.Interrupted,
	dispatchpb.Outcome_OUTCOME_TIMEOUT:           engine.TimedOut,
	dispatchpb.Outcome_OUTCOME_DEADLINE_EXCEEDED: engine.DeadlineExceeded,
	dispatchpb.Outcome_OUTCOME_MEMORY_EXCEEDED:   engine.MemoryExceeded,
	dispatchpb.Outcome_OUTCOME_OOM_KILLED:        engine.OOMKilled,
	dispatchpb.Outcome_OUTCOME_RESPONDED:         engine.Responded,
}

func fromResult(r *dispatchpb.Result, p prover) (engine.Result, error) {
	token, err := fromToken(r.GetToken(), r.GetJobName())
	if err != nil {
		return engine.Result{}, err
	}
	outcome, ok := outcomes[r.GetOutcome()]
	if !ok {
		return engine.Result{}, grpcstatus.Errorf(codes.InvalidArgument, "outcome %d is not known", r.GetOutcome())
	}
	return engine.Result{
		Token: token, JobName: r.GetJobName(), Outcome: outcome, ExitCode: min(max(0, r.GetExitCode()), maxExitCode),
		Message:    head(printable(r.GetMessage()), maxMessageChars),
		Output:     tail(r.GetOutput()),
		StartedAgo: ago(r.GetStartedAgo()), EndedAgo: ago(r.GetEndedAgo()),
		CPUTime: ago(r.GetCpuTime()), MaxMemoryBytes: max(0, r.GetMaxMemoryBytes()), Signal: signalOf(r), HTTPStatus: statusOf(r.GetHttpStatus()),
		Proven: p.proves(token, r.GetToken().GetProof()),
	}, nil
}

func fromToken(t *dispatchpb.Token, name string) (engine.Token, error) {
	if !isUID(t.GetJobUid()) || !isName(name) || t.GetTry() < 1 || t.GetIndex() < 0 ||
		t.GetEpoch().GetLeaseCreatedMicros() < 0 || t.GetEpoch().GetLeaseTransitions() < 0 {
		return engine.Token{}, grpcstatus.Errorf(codes.InvalidArgument, "token %.200v of job %.300q is not valid", t, name)
	}
	return engine.Token{
		Job: types.UID(t.GetJobUid()), Index: t.GetIndex(), Try: t.GetTry(),
		Epoch: engine.Epoch{LeaseCreated: t.GetEpoch().GetLeaseCreatedMicros(), Transitions: t.GetEpoch().GetLeaseTransitions()},
	}, nil
}

// signalOf is what has ended a process, 0 if none is known to have.
func signalOf(r *dispatchpb.Result) int32 {
	if s := r.GetSignal(); r.GetExitCode() == exitOfSignal+s {
		return max(0, s)
	}
	return 0
}

// statusOf is the status of an HTTP answer, 0 for none.
func statusOf(status int32) int32 {
	if status < 100 || status > 599 {
		return 0
	}
	return status
}

// isUID tells whether the API server could have made it.
func isUID(s string) bool { return len(s) == uidBytes && uuid.Validate(s) == nil }

// isName tells whether an object could be called so: a DNS-1123 subdomain. Reports repeat the names of all that runs,
// and an expression would take 100 times as long.
func isName(s string) bool {
	if s == "" || len(s) > maxNameBytes {
		return false
	}
	before := byte('.')
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && (c != '-' && c != '.' || before == '.' || c == '.' && before == '-') {
			return false
		}
		before = c
	}
	return before != '-' && before != '.'
}

// ago is a duration that is not negative.
func ago(d *durationpb.Duration) time.Duration { return max(0, d.AsDuration()) }

// head is the beginning of a string, of at most so many characters.
func head(s string, chars int) string {
	for i := range s {
		if chars == 0 {
			return s[:i]
		}
		chars--
	}
	return s
}

// tail is the end of a job's output as text, cut so that it begins with a whole character.
func tail(b []byte) string {
	b = b[max(0, len(b)-maxOutputBytes):]
	for i := 0; i < utf8.UTFMax-1 && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:]
	}
	return printable(string(b))
}

// printable replaces what is not UTF-8, and the characters that YAML does not have and JSON does not escape:
// who has one of them in a status can't print it with kubectl.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0x7f || r >= 0x80 && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func toMessage(cmd engine.Command, p prover) *dispatchpb.OperatorMessage {
	message := &dispatchpb.OperatorMessage{
		Sequence: cmd.Sequence, Recorded: toTokens(cmd.Recorded), Settled: toTokens(cmd.Settled),
	}
	for i := range cmd.Assignments {
		message.Assignments = append(message.Assignments, toAssignment(&cmd.Assignments[i], p))
	}
	for _, k := range cmd.Kills {
		message.Kills = append(message.Kills, &dispatchpb.Kill{Token: toToken(k.Token), Grace: durationpb.New(k.Grace)})
	}
	return message
}

func toAssignment(a *engine.Assignment, p prover) *dispatchpb.Assignment {
	token := toToken(a.Token)
	token.Proof = p.proof(a.Token)
	return &dispatchpb.Assignment{
		Token: token, JobName: a.JobName,
		Argv: a.Command(), Env: toVariables(a.Env), WorkingDir: a.WorkingDir, Stdin: []byte(a.Stdin), Http: toRequest(a),
		Timeout: toLimit(a.Timeout), Deadline: toLimit(a.Deadline), Grace: durationpb.New(a.Grace),
		MemoryLimitBytes: a.MemoryLimit, MemoryShareBytes: a.MemoryShare, MaxOpenFiles: a.MaxOpenFiles,
		ResetCommand: toReset(a.Reset),
	}
}

func toReset(r *engine.ResetCommand) *dispatchpb.ResetCommand {
	if r == nil {
		return nil
	}
	return &dispatchpb.ResetCommand{Argv: r.Argv, Timeout: durationpb.New(r.Timeout)}
}

// toLimit is nil for no limit.
func toLimit(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func toRequest(a *engine.Assignment) *dispatchpb.HttpRequest {
	r := a.HTTP
	if r == nil {
		return nil
	}
	return &dispatchpb.HttpRequest{Method: r.Method, Path: a.Path(), Headers: toVariables(r.Headers), Body: []byte(r.Body)}
}

func toVariables(all []engine.Variable) []*dispatchpb.EnvVar {
	var out []*dispatchpb.EnvVar
	for _, v := range all {
		out = append(out, &dispatchpb.EnvVar{Name: v.Name, Value: v.Value})
	}
	return out
}

func toTokens(tokens []engine.Token) []*dispatchpb.Token {
	var out []*dispatchpb.Token
	for _, t := range tokens {
		out = append(out, toToken(t))
	}
	return out
}

func toToken(t engine.Token) *dispatchpb.Token {
	return &dispatchpb.Token{JobUid: string(t.Job), Index: t.Index, Try: t.Try, Epoch: toEpoch(t.Epoch)}
}

func toEpoch(e engine.Epoch) *dispatchpb.Epoch {
	return &dispatchpb.Epoch{LeaseCreatedMicros: e.LeaseCreated, LeaseTransitions: e.Transitions}
}
