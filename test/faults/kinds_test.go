package faults

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

// kinds are the writes that the operator makes for pools and Jobs: each has to be made without a fault by a scenario that
// is not slow, but for those of slow ones, and each has to meet each fault.
var kinds = []string{
	"create events",
	"create pods",
	"create subjectaccessreviews",
	"create tokenreviews of a pod",
	"create tokenreviews of a scraper",
	"delete jobs expired",
	"delete jobs retained-a",
	"delete pods given up",
	"delete pods unwanted",
	"patch jobs/status broken Failed IndexesFailed",
	"patch jobs/status expired Succeeded",
	"patch jobs/status failed Failed ExitCode",
	"patch jobs/status handled Failed ExitCode",
	"patch jobs/status handled Queued OnFailure",
	"patch jobs/status indexed Pending Retrying",
	"patch jobs/status indexed Succeeded",
	"patch jobs/status long Running",
	"patch jobs/status long Succeeded",
	"patch jobs/status once Running",
	"patch jobs/status once Succeeded",
	"patch jobs/status orphan Pending PoolNotFound",
	"patch jobs/status orphan Queued",
	"patch jobs/status plain Succeeded",
	"patch jobs/status queued Queued",
	"patch jobs/status queued Succeeded",
	"patch jobs/status retried Pending Retrying",
	"patch jobs/status retried Succeeded",
	"patch jobs/status rolled Running",
	"patch jobs/status rolled Succeeded",
	"patch jobs/status suspended Pending Suspended",
	"patch jobs/status suspended Running",
	"patch jobs/status suspended Succeeded",
	"patch workerpools finalizer off",
	"patch workerpools finalizer on",
	"patch workerpools/status",
}

// passing tells whether a kind of write tells of a state that lasts as long as the machine is slow.
func passing(kind string) bool {
	return strings.HasPrefix(kind, "patch jobs/status ") && !strings.Contains(kind, " Succeeded") && !strings.Contains(kind, " Failed")
}

// request is what the operator asks the API server for.
type request struct {
	verb, resource, namespace, name string
	// says tells writes of the same verb and resource apart.
	says string
}

// kind of a write: all that are alike have the same.
func (r *request) kind() string {
	kind := r.verb + " " + r.resource
	if r.says != "" {
		kind += " " + r.says
	}
	return kind
}

var verbs = map[string]string{
	http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodGet: "get",
}

// parse finds out what a request is for.
func parse(r *http.Request, body []byte) request {
	parsed := request{verb: verbs[r.Method], resource: simulated.ResourceOf(r.URL.Path)}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for i, part := range parts {
		if part == "namespaces" && i+2 < len(parts) {
			parsed.namespace = parts[i+1]
			if i+3 < len(parts) {
				parsed.name = parts[i+3]
			}
		}
	}
	if r.URL.Query().Get("watch") != "" {
		parsed.verb = "watch"
	}
	if parsed.verb != "get" && parsed.verb != "watch" {
		parsed.read(body)
	}
	return parsed
}

// read finds out what the body of a write says.
func (r *request) read(body []byte) {
	switch r.resource {
	case "jobs":
		r.says = r.name
	case "jobs/status":
		r.says = r.name + " " + saysOfJob(body)
	case "workerpools":
		r.says = "finalizer off"
		if strings.Contains(string(body), v1alpha1.Finalizer) {
			r.says = "finalizer on"
		}
	case "pods":
		r.says = saysOfPod(r.verb, body)
	default:
		r.readTyped(body)
	}
}

// readTyped is for kinds of Kubernetes itself, which are encoded as the client likes.
func (r *request) readTyped(body []byte) {
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return
	}
	switch o := o.(type) {
	case *coordinationv1.Lease:
		r.says = "hold"
		if ptr.Deref(o.Spec.HolderIdentity, "") == "" {
			r.says = "release"
		}
	case *authenticationv1.TokenReview:
		r.namespace = namespaceOfToken(o.Spec.Token)
		r.says = "of a pod"
		if len(o.Spec.Audiences) == 0 {
			r.says = "of a scraper"
		}
	case *authorizationv1.SubjectAccessReview:
		if parts := strings.Split(o.Spec.User, ":"); len(parts) == 4 {
			r.namespace = parts[2]
		}
	}
}

func saysOfJob(body []byte) string {
	var operations []struct {
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(body, &operations) != nil {
		return ""
	}
	for _, o := range operations {
		status := v1alpha1.JobStatus{}
		if o.Path == "/status" && json.Unmarshal(o.Value, &status) == nil {
			return strings.TrimSpace(string(status.State) + " " + status.Reason)
		}
	}
	return ""
}

func saysOfPod(verb string, body []byte) string {
	if verb != "delete" {
		return ""
	}
	options := &metav1.DeleteOptions{}
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDecoder(), body, options); err != nil {
		return err.Error()
	}
	if options.GracePeriodSeconds != nil {
		return "given up"
	}
	return "unwanted"
}

// namespaceOfToken reads it from the claims of a service account's token.
func namespaceOfToken(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	claims := struct {
		Kubernetes struct {
			Namespace string `json:"namespace"`
		} `json:"kubernetes.io"`
	}{}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Kubernetes.Namespace
}
