package tolerant

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// ordinary returns the decoder of an ordinary client, and ours.
func decoders(t testing.TB) (ordinary, ours runtime.Decoder) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	factory := serializer.NewCodecFactory(scheme)
	info, ok := runtime.SerializerInfoForMediaType(factory.SupportedMediaTypes(), runtime.ContentTypeJSON)
	if !ok {
		t.Fatal("no serializer of JSON")
	}
	return info.Serializer, codecs{factory}.DecoderToVersion(info.Serializer, nil)
}

// stored is an object as the API server sends it.
func stored(kind, name, spec, status string) string {
	return fmt.Sprintf(`{"apiVersion":"workerpool.dev/v1alpha1","kind":%q,"metadata":{"name":%q,"namespace":"a","uid":"uid-%s",`+
		`"resourceVersion":"7","annotations":{"note":"kept"}},"spec":%s,"status":%s}`, kind, name, name, spec, status)
}

func listOf(kind string, items ...string) string {
	return fmt.Sprintf(`{"apiVersion":"workerpool.dev/v1alpha1","kind":%q,"metadata":{"resourceVersion":"9","continue":"more"},"items":[%s]}`,
		kind, strings.Join(items, ","))
}

const (
	goodSpec   = `{"pool":"demo","command":["true"],"ttlSecondsAfterFinished":60}`
	badSpec    = `{"pool":"demo","command":["true"],"startAfter":"2020-01-01t00:00:00z","ttlSecondsAfterFinished":60}`
	goodStatus = `{"state":"Running","attempts":2}`
	badStatus  = `{"state":"Running","startTime":"2020-01-01T00:00:00Z","attempts":2}`
	badPool    = `{"replicas":3,"template":{"spec":{"containers":[{"name":"a","livenessProbe":{"httpGet":{"port":3000000000}}}]}}}`
)

func TestAnObjectThatCannotBeDecodedHoldsUpNoOtherOfItsList(t *testing.T) {
	g := NewWithT(t)
	ordinary, ours := decoders(t)
	data := []byte(listOf("JobList",
		stored("Job", "first", goodSpec, `{}`), stored("Job", "bad", badSpec, goodStatus), stored("Job", "last", goodSpec, goodStatus)))
	_, _, err := ordinary.Decode(data, nil, &v1alpha1.JobList{})
	g.Expect(err).To(HaveOccurred(), "the test is about what an ordinary client can't decode")

	jobs := &v1alpha1.JobList{}
	into, kind, err := ours.Decode(data, nil, jobs)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(into).To(BeIdenticalTo(jobs))
	g.Expect(kind.Kind).To(Equal("JobList"))
	g.Expect(jobs.ResourceVersion).To(Equal("9"))
	g.Expect(jobs.Continue).To(Equal("more"))
	g.Expect(jobs.Items).To(HaveLen(3))
	for _, i := range []int{0, 2} {
		g.Expect(FaultOf(&jobs.Items[i])).To(BeZero())
		g.Expect(jobs.Items[i].Spec.Command).To(Equal([]string{"true"}))
	}
	bad := &jobs.Items[1]
	g.Expect(FaultOf(bad).Part).To(Equal(Spec))
	g.Expect(FaultOf(bad).Message).To(HavePrefix("spec.startAfter: "))
	g.Expect(bad.Name).To(Equal("bad"))
	g.Expect(bad.UID).To(BeEquivalentTo("uid-bad"))
	g.Expect(bad.ResourceVersion).To(Equal("7"))
	g.Expect(bad.Kind).To(Equal("Job"))
	g.Expect(bad.Annotations).To(HaveKeyWithValue("note", "kept"))
	g.Expect(bad.Spec.StartAfter).To(BeNil())
	g.Expect(bad.Spec.Pool).To(Equal("demo"), "what can be decoded is")
	g.Expect(bad.Spec.TTLSecondsAfterFinished).To(HaveValue(BeEquivalentTo(60)))
	g.Expect(bad.Status.State).To(Equal(v1alpha1.JobRunning))
}

func TestAFaultNamesThePart(t *testing.T) {
	for name, tc := range map[string]struct {
		data string
		part Part
		want string
	}{
		"a Job's status":          {stored("Job", "a", goodSpec, badStatus), Status, "status.startTime: "},
		"both":                    {stored("Job", "a", badSpec, badStatus), Spec, "spec.startAfter: "},
		"a pool's template":       {stored("WorkerPool", "a", badPool, `{}`), Spec, "spec.template: "},
		"no object":               {stored("Job", "a", `7`, `{}`), Spec, "spec: "},
		"what the operator wrote": {stored("WorkerPool", "a", `{"replicas":3}`, `{"replicas":3000000000}`), None, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, ours := decoders(t)
			o, _, err := ours.Decode([]byte(tc.data), nil, nil)
			g.Expect(err).NotTo(HaveOccurred())
			fault := FaultOf(o.(metav1.Object))
			g.Expect(fault.Part).To(Equal(tc.part))
			g.Expect(fault.Message).To(HavePrefix(tc.want))
		})
	}
}

// A decoder's words may quote a value that is as long as the object.
func TestAFaultIsShort(t *testing.T) {
	g := NewWithT(t)
	_, ours := decoders(t)
	o, _, err := ours.Decode([]byte(stored("Job", "a", `{"startAfter":"`+strings.Repeat("世", 10000)+`"}`, `{}`)), nil, nil)
	g.Expect(err).NotTo(HaveOccurred())
	message := FaultOf(o.(metav1.Object)).Message
	g.Expect(len(message)).To(And(BeNumerically("<=", messageLimit), BeNumerically(">", messageLimit-4)))
	g.Expect(strings.ToValidUTF8(message, "?")).To(Equal(message))
}

func TestUsersCannotMarkAnObject(t *testing.T) {
	g := NewWithT(t)
	_, ours := decoders(t)
	forged := strings.ReplaceAll(stored("Job", "a", goodSpec, `{}`), `"note":"kept"`, `"`+specMark+`":"x","`+statusMark+`":"y"`)
	bad := stored("Job", "b", badSpec, `{}`)

	o, _, err := ours.Decode([]byte(forged), nil, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(FaultOf(o.(metav1.Object))).To(BeZero())
	for _, items := range [][]string{{forged}, {forged, bad}} {
		jobs := &v1alpha1.JobList{}
		_, _, err = ours.Decode([]byte(listOf("JobList", items...)), nil, jobs)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(FaultOf(&jobs.Items[0])).To(BeZero())
	}
	half := strings.ReplaceAll(stored("Job", "a", goodSpec, badStatus), `"note":"kept"`, `"`+specMark+`":"x"`)
	o, _, err = ours.Decode([]byte(half), nil, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(FaultOf(o.(metav1.Object)).Part).To(Equal(Status))
}

// What was cut off on its way must be asked for again, and not be taken for an object.
func TestATornAnswerIsAnError(t *testing.T) {
	_, ours := decoders(t)
	for _, whole := range []string{stored("Job", "a", goodSpec, goodStatus), listOf("JobList", stored("Job", "a", badSpec, goodStatus))} {
		for n := range len(whole) {
			if o, _, err := ours.Decode([]byte(whole[:n]), nil, nil); err == nil {
				t.Fatalf("%s was read as %v", whole[:n], o)
			}
		}
	}
}

func TestForeignObjectsAreTheOtherDecoders(t *testing.T) {
	g := NewWithT(t)
	_, ours := decoders(t)
	status, _, err := ours.Decode([]byte(`{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired"}`), nil, &v1alpha1.JobList{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(status).To(HaveField("Reason", metav1.StatusReasonExpired))
	_, _, err = ours.Decode([]byte(`{"apiVersion":"v1","kind":"Pod","spec":7}`), nil, nil)
	g.Expect(err).To(HaveOccurred())
	_, _, err = ours.Decode([]byte(stored("Job", "a", badSpec, `{}`)), nil, &v1alpha1.WorkerPool{})
	g.Expect(err).To(HaveOccurred())
}

// FuzzDecode: whatever the bytes are, nothing panics, and what an ordinary client decodes comes out the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "{", "null", `{"apiVersion":"workerpool.dev/v1alpha1","kind":"JobList","items":[null,7]}`,
		stored("Job", "a", goodSpec, goodStatus), stored("Job", "a", badSpec, badStatus), stored("WorkerPool", "a", badPool, `{}`),
		listOf("JobList", stored("Job", "a", goodSpec, goodStatus), stored("Job", "b", badSpec, badStatus)),
		listOf("WorkerPoolList", stored("WorkerPool", "a", badPool, `null`), stored("WorkerPool", "b", `{"replicas":1}`, `{}`)),
		strings.ReplaceAll(stored("Job", "a", goodSpec, `{}`), `"note"`, `"`+specMark+`"`),
	} {
		f.Add([]byte(seed))
	}
	ordinary, ours := decoders(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantKind, wantErr := ordinary.Decode(data, nil, nil)
		got, kind, err := ours.Decode(data, nil, nil)
		if wantErr != nil {
			return
		}
		unmark(want)
		if err != nil || *kind != *wantKind || !cmp.Equal(asJSON(t, got), asJSON(t, want)) {
			t.Errorf("%s: got %v %v %v, want %v %v", data, got, kind, err, want, wantKind)
		}
	})
}

func asJSON(t *testing.T, o any) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// BenchmarkList compares a list of Jobs that are all good: an ordinary client's way, ours, and ours with one that is bad.
func BenchmarkList(b *testing.B) {
	const jobs = 10_000
	items := make([]string, jobs)
	for i := range items {
		items[i] = stored("Job", fmt.Sprint("job-", i), goodSpec, goodStatus)
	}
	good := []byte(listOf("JobList", items...))
	items[jobs/2] = stored("Job", "bad", badSpec, goodStatus)
	bad := []byte(listOf("JobList", items...))
	ordinary, ours := decoders(b)
	for _, bc := range []struct {
		name    string
		decoder runtime.Decoder
		data    []byte
	}{{"ordinary", ordinary, good}, {"tolerant", ours, good}, {"one bad", ours, bad}} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetBytes(int64(len(bc.data)))
			for b.Loop() {
				if _, _, err := bc.decoder.Decode(bc.data, nil, &v1alpha1.JobList{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
