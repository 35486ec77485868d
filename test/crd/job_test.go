package crd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// What amounts must be.
const (
	cpu    = "cpu must be a number of processors above 0 and below 1000000, such as 2 or 500m"
	memory = "memory must be an amount above 0 and below 1E, such as 512Mi or 1.5Gi"
)

// get is the smallest request that a Job can be.
var get = v1alpha1.HTTPRequest{Method: "GET", Path: "/"}

// header makes a request with one header.
func header(name, value string) v1alpha1.HTTPRequest {
	return v1alpha1.HTTPRequest{Path: "/", Headers: []v1alpha1.HTTPHeader{{Name: name, Value: new(value)}}}
}

// refusal is a Job that the API server must refuse, with a part of the message.
type refusal struct {
	job  *testutil.JobBuilder
	want string
}

func expectRefusals(t *testing.T, refusals map[string]refusal) {
	t.Helper()
	for name, tc := range refusals {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			err := env.Client.Create(t.Context(), tc.job.Obj())
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

func TestJobIsRefusedForWhatItRuns(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := func() *testutil.JobBuilder { return testutil.MakeJob(namespace, "demo", "pool") }
	request := func(r v1alpha1.HTTPRequest) *testutil.JobBuilder { return job().HTTP(r) }
	const (
		commandsOnly = "args, env, workingDir and stdin are for commands: an HTTP Job has a path, headers and a body"
		path         = "path must begin with a slash and have no spaces or characters that are not ASCII: escape them"
		escapes      = "path may have no number sign, and a percent sign only before two hexadecimal digits: say %23 and %25"
		together     = "command, args, env, stdin, items and http may have 1 MiB together"
	)
	expectRefusals(t, map[string]refusal{
		"no pool":                    {testutil.MakeJob(namespace, "demo", ""), "spec.pool"},
		"pool is no DNS label":       {testutil.MakeJob(namespace, "demo", "Pool_1"), "pool must be the name of a WorkerPool: a DNS label"},
		"pool's name too long":       {testutil.MakeJob(namespace, "demo", strings.Repeat("a", 53)), "spec.pool: Too long"},
		"neither command nor http":   {job().Command(), "command or http must be set: the program to run, or the request to make"},
		"command and http":           {request(get).Command("true"), "command and http may not both be set: a Job is one or the other"},
		"args without a command":     {job().Command().Args("-l"), "command must be set where args is: the image's entrypoint is not used"},
		"empty program":              {job().Command(""), "command must begin with the name of a program"},
		"too long a command":         {job().Command(make([]string, 257)...), "spec.command: Too many: 257: must have at most 256 items"},
		"too long a word":            {job().Command("echo", strings.Repeat("x", 32769)), "spec.command[1]: Too long"},
		"too many args":              {job().Args(make([]string, 1025)...), "spec.args: Too many: 1025: must have at most 1024 items"},
		"too long an argument":       {job().Args(strings.Repeat("x", 32769)), "spec.args[0]: Too long"},
		"args too long together":     {job().Args(slices.Repeat([]string{strings.Repeat("x", 32768)}, 32)...), together},
		"env too long together":      {bigEnv(job(), 33, 32_000), together},
		"relative directory":         {job().WorkingDir("tmp"), "workingDir must be an absolute path"},
		"too long a directory":       {job().WorkingDir("/" + strings.Repeat("x", 4096)), "spec.workingDir: Too long"},
		"too long an input":          {job().Stdin(strings.Repeat("x", 524289)), "spec.stdin: Too long"},
		"too much in wide letters":   {job().Stdin(strings.Repeat("世", 400_000)), together},
		"variable without a name":    {job().Env("", "x"), "spec.env[0].name"},
		"name with an equal sign":    {job().Env("a=b", "x"), "name may not have an equal sign"},
		"too long a name":            {job().Env(strings.Repeat("x", 257), ""), "spec.env[0].name: Too long"},
		"too long a value":           {job().Env("a", strings.Repeat("x", 32769)), "spec.env[0].value: Too long"},
		"the same variable twice":    {job().Env("a", "1").Env("a", "2"), "spec.env[1]: Duplicate value"},
		"too many variables":         {bigEnv(job(), 257, 1), "spec.env: Too many: 257: must have at most 256 items"},
		"request with args":          {request(get).Args("-l"), commandsOnly},
		"request with env":           {request(get).Env("a", "b"), commandsOnly},
		"request with a directory":   {request(get).WorkingDir("/"), commandsOnly},
		"request with an input":      {request(get).Stdin("x"), commandsOnly},
		"request with onFailure":     {request(get).OnFailure("true"), "onFailure is a command, which the workers of an HTTP Job can't run"},
		"request without a path":     {request(v1alpha1.HTTPRequest{}), "spec.http.path"},
		"relative path":              {request(v1alpha1.HTTPRequest{Path: "a"}), path},
		"path with a space":          {request(v1alpha1.HTTPRequest{Path: "/a b"}), path},
		"path with a fragment":       {request(v1alpha1.HTTPRequest{Path: "/a#b"}), escapes},
		"path with a bad escape":     {request(v1alpha1.HTTPRequest{Path: "/%zz"}), escapes},
		"path with half an escape":   {request(v1alpha1.HTTPRequest{Path: "/a?b=100%"}), escapes},
		"path that is not ASCII":     {request(v1alpha1.HTTPRequest{Path: "/ä"}), path},
		"too long a path":            {request(v1alpha1.HTTPRequest{Path: "/" + strings.Repeat("x", 4096)}), "spec.http.path: Too long"},
		"unknown method":             {request(v1alpha1.HTTPRequest{Path: "/", Method: "TRACE"}), `spec.http.method: Unsupported value: "TRACE": supported values: "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"`},
		"body of 600 KiB":            {request(v1alpha1.HTTPRequest{Path: "/", Body: strings.Repeat("x", 600<<10)}), "spec.http.body: Too long"},
		"header without a name":      {request(header("", "x")), "spec.http.headers[0].name"},
		"header name with a space":   {request(header("a b", "x")), "name must be the name of an HTTP header"},
		"header of the connection":   {request(header("Host", "x")), "this header is set by the agent"},
		"header of the operator":     {request(header("workerpool-try", "7")), "this header is set by the agent"},
		"header of two lines":        {request(header("A", "x\r\nHost: y")), "value may not have control characters"},
		"too long a header":          {request(header("A", strings.Repeat("x", 8193))), "spec.http.headers[0].value: Too long"},
		"too long a header's name":   {request(header(strings.Repeat("x", 257), "")), "spec.http.headers[0].name: Too long"},
		"too many headers":           {request(headers(65)), "spec.http.headers: Too many: 65: must have at most 64 items"},
		"onFailure without command":  {job().OnFailure(), "spec.onFailure.command"},
		"onFailure, empty program":   {job().OnFailure(""), "command must begin with the name of a program"},
		"onFailure of 200 KiB":       {job().OnFailure(slices.Repeat([]string{strings.Repeat("x", 20_000)}, 10)...), "onFailure may have 128 KiB of command, args and env together"},
		"onFailure, too many words":  {job().OnFailure(make([]string, 257)...), "spec.onFailure.command: Too many"},
		"onFailure, too many args":   {handled(job(), func(h *v1alpha1.FailureHandler) { h.Args = make([]string, 1025) }), "spec.onFailure.args: Too many: 1025: must have at most 1024 items"},
		"onFailure, a long argument": {handled(job(), func(h *v1alpha1.FailureHandler) { h.Args = []string{strings.Repeat("x", 32769)} }), "spec.onFailure.args[0]: Too long"},
		"onFailure, many variables":  {handled(job(), func(h *v1alpha1.FailureHandler) { h.Env = bigEnv(job(), 257, 1).Obj().Spec.Env }), "spec.onFailure.env: Too many: 257: must have at most 256 items"},
		"onFailure, equal sign":      {handled(job(), func(h *v1alpha1.FailureHandler) { h.Env = []v1alpha1.EnvVar{{Name: "a=b"}} }), "name may not have an equal sign"},
		"onFailure, a long value":    {handled(job(), func(h *v1alpha1.FailureHandler) { h.Env = bigEnv(job(), 1, 32769).Obj().Spec.Env }), "spec.onFailure.env[0].value: Too long"},
		"onFailure, no name":         {handled(job(), func(h *v1alpha1.FailureHandler) { h.Env = []v1alpha1.EnvVar{{}} }), "spec.onFailure.env[0].name"},
		"onFailure, a long name":     {handled(job(), func(h *v1alpha1.FailureHandler) { h.Env = []v1alpha1.EnvVar{{Name: strings.Repeat("x", 257)}} }), "spec.onFailure.env[0].name: Too long"},
		"onFailure, too long a word": {job().OnFailure(strings.Repeat("x", 32769)), "spec.onFailure.command[0]: Too long"},
	})
}

func bigEnv(job *testutil.JobBuilder, variables, size int) *testutil.JobBuilder {
	for i := range variables {
		job.Env(fmt.Sprint("v", i), strings.Repeat("x", size))
	}
	return job
}

// handled gives the Job an onFailure, and changes it.
func handled(job *testutil.JobBuilder, change func(*v1alpha1.FailureHandler)) *testutil.JobBuilder {
	return job.OnFailure("true").Spec(func(s *v1alpha1.JobSpec) { change(s.OnFailure) })
}

func headers(n int) v1alpha1.HTTPRequest {
	r := v1alpha1.HTTPRequest{Path: "/"}
	for i := range n {
		r.Headers = append(r.Headers, v1alpha1.HTTPHeader{Name: fmt.Sprint("h", i)})
	}
	return r
}

func TestJobIsRefusedForHowItRuns(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := func() *testutil.JobBuilder { return testutil.MakeJob(namespace, "demo", "pool") }
	const (
		noItems = "items and completions may not both be set: items has one task for each item"
		once    = "a Job that runs AtMostOnce may not have completions or items"
		retried = "a Job that runs AtMostOnce may not be retried: leave out maxRetries and failurePolicy"
		either  = "a rule must have exitCodes or reasons, and not both"
	)
	big := slices.Repeat([]string{strings.Repeat("x", 1024)}, 513)
	both := job().OnExitCodes(v1alpha1.ActionFail, 1).Obj()
	both.Spec.FailurePolicy.Rules[0].Reasons = []v1alpha1.FailureReason{v1alpha1.ReasonTimeout}
	expectRefusals(t, map[string]refusal{
		"priority too high":           {job().Priority(1001), "spec.priority in body should be less than or equal to 1000"},
		"priority too low":            {job().Priority(-1001), "spec.priority in body should be greater than or equal to -1000"},
		"negative time to live":       {job().TTL(-1), "spec.ttlSecondsAfterFinished in body should be greater than or equal to 0"},
		"too long a time to live":     {job().TTL(315360001), "spec.ttlSecondsAfterFinished in body should be less than or equal to 315360000"},
		"negative retries":            {job().MaxRetries(-1), "spec.maxRetries in body should be greater than or equal to 0"},
		"too many retries":            {job().MaxRetries(10001), "spec.maxRetries in body should be less than or equal to 10000"},
		"negative first wait":         {job().Backoff(-1, 1, 1), "spec.backoff.initialSeconds in body should be greater than or equal to 0"},
		"too long a first wait":       {job().Backoff(86401, 1, 1), "spec.backoff.initialSeconds in body should be less than or equal to 86400"},
		"factor of 0":                 {job().Backoff(1, 0, 1), "spec.backoff.factor in body should be greater than or equal to 1"},
		"too large a factor":          {job().Backoff(1, 11, 1), "spec.backoff.factor in body should be less than or equal to 10"},
		"negative longest wait":       {job().Backoff(1, 1, -1), "spec.backoff.maxSeconds in body should be greater than or equal to 0"},
		"too long a longest wait":     {job().Backoff(1, 1, 86401), "spec.backoff.maxSeconds in body should be less than or equal to 86400"},
		"rule about nothing":          {job().OnReasons(v1alpha1.ActionFail), either},
		"rule about both":             {rebuild(both), either},
		"rule without an action":      {job().OnExitCodes("", 1), "spec.failurePolicy.rules[0].action"},
		"unknown action":              {job().OnExitCodes("Stop", 1), `spec.failurePolicy.rules[0].action: Unsupported value: "Stop": supported values: "Fail", "Retry", "Ignore"`},
		"exit code 0":                 {job().OnExitCodes(v1alpha1.ActionFail, 0), "spec.failurePolicy.rules[0].exitCodes[0] in body should be greater than or equal to 1"},
		"exit code 256":               {job().OnExitCodes(v1alpha1.ActionFail, 256), "spec.failurePolicy.rules[0].exitCodes[0] in body should be less than or equal to 255"},
		"exit code twice":             {job().OnExitCodes(v1alpha1.ActionFail, 7, 7), "spec.failurePolicy.rules[0].exitCodes[1]: Duplicate value: 7"},
		"unknown reason":              {job().OnReasons(v1alpha1.ActionFail, "Bored"), `spec.failurePolicy.rules[0].reasons[0]: Unsupported value: "Bored"`},
		"reason that is always final": {job().OnReasons(v1alpha1.ActionRetry, v1alpha1.ReasonDeadlineExceeded), "Unsupported value"},
		"reason twice":                {job().OnReasons(v1alpha1.ActionFail, v1alpha1.ReasonTimeout, v1alpha1.ReasonTimeout), "reasons[1]: Duplicate value"},
		"too many rules":              {manyRules(job(), 21), "spec.failurePolicy.rules: Too many: 21: must have at most 20 items"},
		"timeout of 0":                {job().Timeout(0), "spec.timeoutSeconds in body should be greater than or equal to 1"},
		"too long a timeout":          {job().Timeout(31536001), "spec.timeoutSeconds in body should be less than or equal to 31536000"},
		"deadline of 0":               {job().Deadline(0), "spec.activeDeadlineSeconds in body should be greater than or equal to 1"},
		"too late a deadline":         {job().Deadline(315360001), "spec.activeDeadlineSeconds in body should be less than or equal to 315360000"},
		"negative grace":              {job().Grace(-1), "spec.terminationGracePeriodSeconds in body should be greater than or equal to 0"},
		"too long a grace":            {job().Grace(86401), "spec.terminationGracePeriodSeconds in body should be less than or equal to 86400"},
		"no completions":              {job().Completions(0), "spec.completions in body should be greater than or equal to 1"},
		"too many completions":        {job().Completions(100001), "spec.completions in body should be less than or equal to 100000"},
		"no parallelism":              {job().Completions(2).Parallelism(0), "spec.parallelism in body should be greater than or equal to 1"},
		"too much parallelism":        {job().Completions(2).Parallelism(1001), "spec.parallelism in body should be less than or equal to 1000"},
		"parallelism alone":           {job().Parallelism(2), "parallelism is for Jobs with completions or items"},
		"items and completions":       {job().Items("a").Completions(1), noItems},
		"too many items":              {job().Items(make([]string, 10001)...), "spec.items: Too many: 10001: must have at most 10000 items"},
		"too long an item":            {job().Items(strings.Repeat("x", 1025)), "spec.items[0]: Too long"},
		"item too long in bytes":      {job().Items(strings.Repeat("ä", 1000)), "an item may have 1024 bytes"},
		"items too long together":     {job().Items(big...), "items may have 512 KiB together"},
		"no processors":               {job().CPU("0"), cpu},
		"fewer processors than none":  {job().CPU("-1"), cpu},
		"no memory":                   {job().Memory("0"), memory},
		"less memory than none":       {job().Memory("-1Gi"), memory},
		"more memory than there is":   {job().Memory("10E"), memory},
		"too few files":               {job().Files(3), "spec.resources.files in body should be greater than or equal to 4"},
		"too many files":              {job().Files(1048577), "spec.resources.files in body should be less than or equal to 1048576"},
		"once, indexed":               {job().AtMostOnce().Completions(2), once},
		"once, items":                 {job().AtMostOnce().Items("a"), once},
		"once, retried":               {job().AtMostOnce().MaxRetries(1), retried},
		"once, with a policy":         {job().AtMostOnce().OnExitCodes(v1alpha1.ActionIgnore, 1), retried},
	})
}

// rebuild makes a builder of a Job that builders can't make.
func rebuild(job *v1alpha1.Job) *testutil.JobBuilder {
	return testutil.MakeJob(job.Namespace, job.Name, job.Spec.Pool).Spec(func(s *v1alpha1.JobSpec) { *s = job.Spec })
}

func manyRules(job *testutil.JobBuilder, n int) *testutil.JobBuilder {
	for range n {
		job.OnExitCodes(v1alpha1.ActionFail, 1)
	}
	return job
}

// What a Go client can't even say, a file can.
func TestJobIsRefusedForWhatIsNotOfItsType(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for name, tc := range map[string]struct{ spec, want string }{
		"amount that is none":     {`resources: {cpu: abc}`, cpu},
		"amount of many digits":   {`resources: {cpu: "` + strings.Repeat("1", 65) + `"}`, "spec.resources.cpu: Too long"},
		"a large exponent":        {`resources: {cpu: 1e999999999}`, cpu},
		"too many processors":     {`resources: {cpu: 1M}`, cpu},
		"memory with an exponent": {`resources: {memory: 1e999999999}`, memory},
		"memory that is none":     {`resources: {memory: 1 GB}`, memory},
		"resources of nothing":    {`resources: {}`, "spec.resources in body should have at least 1 properties"},
		"time that is none":       {`startAfter: tomorrow`, `spec.startAfter in body must be of type date-time: "tomorrow"`},
		"text for a number":       {`maxRetries: many`, "spec.maxRetries in body must be of type integer"},
		"number with a fraction":  {`timeoutSeconds: 1.5`, "spec.timeoutSeconds in body must be of type int32"},
		"number for a text":       {`args: [1]`, "spec.args[0] in body must be of type string"},
		"number beyond all":       {`maxRetries: 4294967296`, "spec.maxRetries"},
		"unknown execution":       {`execution: ExactlyOnce`, `spec.execution: Unsupported value: "ExactlyOnce": supported values: "AtLeastOnce", "AtMostOnce"`},
		"no args":                 {`args: []`, "spec.args in body should have at least 1 items"},
		"no items":                {`items: []`, "spec.items in body should have at least 1 items"},
		"no variables":            {`env: []`, "spec.env in body should have at least 1 items"},
		"policy without rules":    {`failurePolicy: {}`, "spec.failurePolicy.rules: Required value"},
		"policy of no rules":      {`failurePolicy: {rules: []}`, "spec.failurePolicy.rules in body should have at least 1 items"},
		"rule of no exit codes":   {`failurePolicy: {rules: [{action: Fail, exitCodes: []}]}`, "exitCodes in body should have at least 1 items"},
		"rule of no reasons":      {`failurePolicy: {rules: [{action: Fail, reasons: []}]}`, "reasons in body should have at least 1 items"},
		"onFailure without words": {`onFailure: {}`, "spec.onFailure.command: Required value"},
		"onFailure of no words":   {`onFailure: {command: []}`, "spec.onFailure.command in body should have at least 1 items"},
		"onFailure, no args":      {`onFailure: {command: [a], args: []}`, "spec.onFailure.args in body should have at least 1 items"},
		"onFailure, no variables": {`onFailure: {command: [a], env: []}`, "spec.onFailure.env in body should have at least 1 items"},
		"no input":                {`stdin: ""`, "spec.stdin in body should be at least 1 chars long"},
		"no directory":            {`workingDir: ""`, "spec.workingDir in body should be at least 1 chars long"},
		"nothing at all":          {`{}`, "spec.pool: Required value"},
		"a pool alone":            {`{pool: demo}`, "command or http must be set"},
		"no words":                {`{pool: demo, command: []}`, "spec.command in body should have at least 1 items"},
		"no headers":              {`{pool: demo, http: {path: /, headers: []}}`, "spec.http.headers in body should have at least 1 items"},
		"no body":                 {`{pool: demo, http: {path: /, body: ""}}`, "spec.http.body in body should be at least 1 chars long"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			spec := tc.spec
			if !strings.HasPrefix(spec, "{") {
				spec = `{pool: demo, command: ["true"], ` + spec + `}`
			}
			err := env.Client.Create(t.Context(), fromYAML(t, namespace, "Job", spec))
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

func TestUnknownFieldsAreRefusedUnderStrictValidation(t *testing.T) {
	namespace := env.Namespace(t, nil)
	strict := client.WithFieldValidation(env.Client, metav1.FieldValidationStrict)
	for kind, specs := range map[string]map[string]string{
		"Job": {
			"spec.retries":                     `{pool: demo, command: ["true"], retries: 3}`,
			"spec.resources.gpu":               `{pool: demo, command: ["true"], resources: {gpu: 1}}`,
			"spec.backoff.seconds":             `{pool: demo, command: ["true"], backoff: {seconds: 1}}`,
			"spec.http.url":                    `{pool: demo, http: {path: /, url: /}}`,
			"spec.failurePolicy.rules[0].when": `{pool: demo, command: ["true"], failurePolicy: {rules: [{action: Fail, exitCodes: [1], when: x}]}}`,
		},
		"WorkerPool": {
			"spec.replica":               `{replica: 3, template: {spec: {containers: [{name: a, image: a}]}}}`,
			"spec.queue.size":            `{queue: {size: 3}, template: {spec: {containers: [{name: a, image: a}]}}}`,
			"spec.jobDefaults.priority":  `{jobDefaults: {priority: 3, maxRetries: 1}, template: {spec: {containers: [{name: a, image: a}]}}}`,
			"spec.template.spec.contain": `{template: {spec: {contain: 1, containers: [{name: a, image: a}]}}}`,
		},
	} {
		for field, spec := range specs {
			t.Run(field, func(t *testing.T) {
				g := NewWithT(t)
				err := strict.Create(t.Context(), fromYAML(t, namespace, kind, spec))
				g.Expect(apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
				g.Expect(err.Error()).To(ContainSubstring("unknown field %q", field))
			})
		}
	}
}

func TestJobIsTaken(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := func(name string) *testutil.JobBuilder { return testutil.MakeJob(namespace, name, "pool") }
	half := slices.Repeat([]string{strings.Repeat("x", 1024)}, 512)
	for name, b := range map[string]*testutil.JobBuilder{
		"request":                    job("get").HTTP(get),
		"header without a value":     job("header").HTTP(headers(64)),
		"empty header":               job("empty").HTTP(header("A", "")),
		"body of 512 KiB":            job("body").HTTP(v1alpha1.HTTPRequest{Path: "/", Body: strings.Repeat("x", 512<<10)}),
		"escaped characters":         job("escaped").HTTP(v1alpha1.HTTPRequest{Path: "/%23%2f?a=%25&b={}&c='[]"}),
		"request of each item":       job("each").HTTP(v1alpha1.HTTPRequest{Path: "/?q={}"}).Items("a", "b"),
		"items of 512 KiB":           job("items").Items(half...),
		"10,000 empty items":         job("many").Items(make([]string, 10_000)...),
		"100,000 tasks":              job("tasks").Completions(100_000).Parallelism(1000),
		"once, no retries":           job("once").AtMostOnce().MaxRetries(0),
		"no wait":                    job("eager").Backoff(0, 1, 0),
		"all of a second's fraction": job("small").CPU("1n").Memory("1").Files(4),
		"a time that has passed":     job("past").StartAfter(time.Unix(0, 0)),
		"input and items":            job("both").Stdin(strings.Repeat("x", 500<<10)).Items(half[:500]...),
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(env.Client.Create(t.Context(), b.Obj())).To(Succeed())
		})
	}
}

func TestJobDefaults(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	job := testutil.MakeJob(namespace, "demo", "pool").Obj()
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	g.Expect(job.Spec).To(Equal(v1alpha1.JobSpec{
		Pool: "pool", Command: []string{"true"},
		Priority: new(int32(0)), Suspend: new(false), Execution: v1alpha1.AtLeastOnce,
		TerminationGracePeriodSeconds: new(int32(10)),
	}), "all else depends on the pool's jobDefaults")
	g.Expect(job.Status).To(Equal(v1alpha1.JobStatus{State: v1alpha1.JobPending, Reason: v1alpha1.ReasonWaiting}),
		"a new Job must have a state without a write")

	job = testutil.MakeJob(namespace, "request", "pool").HTTP(v1alpha1.HTTPRequest{Path: "/"}).
		Spec(func(s *v1alpha1.JobSpec) { s.Backoff = &v1alpha1.Backoff{} }).Obj()
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	g.Expect(job.Spec.HTTP.Method).To(Equal("POST"))
	g.Expect(job.Spec.Backoff).To(Equal(&v1alpha1.Backoff{
		InitialSeconds: new(int32(1)), Factor: new(int32(2)), MaxSeconds: new(int32(300)),
	}))
}

// The largest Jobs that the schema allows must pass the CEL rules within their cost, when they are
// made and when they are changed.
func TestLargeJobIsTaken(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := func(name string) *testutil.JobBuilder { return testutil.MakeJob(namespace, name, "pool") }
	for _, b := range []*testutil.JobBuilder{
		bigEnv(job("commands").Command("sh", "-c", strings.Repeat("x", 30_000)), 256, 1000).
			Args(slices.Repeat([]string{"{}" + strings.Repeat("y", 200)}, 1024)...).
			Items(slices.Repeat([]string{strings.Repeat("z", 20)}, 10_000)...).
			OnFailure(slices.Repeat([]string{strings.Repeat("x", 500)}, 256)...),
		job("request").HTTP(v1alpha1.HTTPRequest{Path: "/", Headers: headers(64).Headers, Body: strings.Repeat("x", 512<<10)}).
			Items(slices.Repeat([]string{strings.Repeat("z", 50)}, 10_000)...),
	} {
		g := NewWithT(t)
		stored := b.Obj()
		g.Expect(env.Client.Create(t.Context(), stored)).To(Succeed())
		stored.Spec.Priority = new(int32(1))
		g.Expect(env.Client.Update(t.Context(), stored)).To(Succeed())
		stored.Status.State = v1alpha1.JobQueued
		g.Expect(env.Client.Status().Update(t.Context(), stored)).To(Succeed())
	}
}

func TestJobsAreSelectedByPool(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	for name, pool := range map[string]string{"one": "a", "two": "b"} {
		g.Expect(env.Client.Create(t.Context(), testutil.MakeJob(namespace, name, pool).Obj())).To(Succeed())
	}
	list := &v1alpha1.JobList{}
	g.Expect(env.Client.List(t.Context(), list, client.InNamespace(namespace), client.MatchingFields{"spec.pool": "b"})).To(Succeed())
	g.Expect(list.Items).To(HaveLen(1))
	g.Expect(list.Items[0].Name).To(Equal("two"))
}
