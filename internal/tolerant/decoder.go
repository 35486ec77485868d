package tolerant

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// codecs are the ordinary ones of a scheme, but for the decoder.
type codecs struct{ serializer.CodecFactory }

var _ runtime.NegotiatedSerializer = codecs{}

// DecoderToVersion leaves out the conversion, as controller-runtime does: each kind has one version.
func (c codecs) DecoderToVersion(d runtime.Decoder, _ runtime.GroupVersioner) runtime.Decoder {
	return decoder{d}
}

// EncoderForVersion is CodecFactory's without a conversion.
func (c codecs) EncoderForVersion(e runtime.Encoder, version runtime.GroupVersioner) runtime.Encoder {
	return c.WithoutConversion().EncoderForVersion(e, version)
}

// decoder decodes as another one does. What that one can't decode, of Jobs and WorkerPools, it decodes object by
// object and field by field: the way that all others take costs nothing more.
type decoder struct{ runtime.Decoder }

// Decode is runtime.Decoder's. Its errors are the other decoder's.
func (d decoder) Decode(
	data []byte, defaults *schema.GroupVersionKind, into runtime.Object,
) (runtime.Object, *schema.GroupVersionKind, error) {
	decoded, kind, err := d.Decoder.Decode(data, defaults, into)
	if err == nil {
		unmark(decoded)
		return decoded, kind, nil
	}
	decoded, salvageErr := d.salvage(data)
	if salvageErr != nil {
		return nil, kind, err
	}
	actual := decoded.GetObjectKind().GroupVersionKind()
	if decoded, err = assign(decoded, into); err != nil {
		return nil, kind, err
	}
	return decoded, &actual, nil
}

// errForeign: the object is not one of ours.
var errForeign = errors.New("neither a Job nor a WorkerPool, nor a list of them")

// salvage reads what can be read.
func (d decoder) salvage(data []byte) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := utiljson.Unmarshal(data, &kind); err != nil {
		return nil, err
	}
	switch kind.GroupVersionKind() {
	case v1alpha1.GroupVersion.WithKind("Job"):
		return salvageJob(data)
	case v1alpha1.GroupVersion.WithKind("WorkerPool"):
		return salvagePool(data)
	case v1alpha1.GroupVersion.WithKind("JobList"):
		jobs := &v1alpha1.JobList{}
		var err error
		jobs.TypeMeta, jobs.ListMeta, jobs.Items, err = each(d, data, salvageJob)
		return jobs, err
	case v1alpha1.GroupVersion.WithKind("WorkerPoolList"):
		pools := &v1alpha1.WorkerPoolList{}
		var err error
		pools.TypeMeta, pools.ListMeta, pools.Items, err = each(d, data, salvagePool)
		return pools, err
	}
	return nil, errForeign
}

// each decodes the objects of a list one by one.
func each[T any, P interface {
	*T
	runtime.Object
}](d decoder, data []byte, salvage func([]byte) (P, error)) (metav1.TypeMeta, metav1.ListMeta, []T, error) {
	var raw list
	if err := utiljson.Unmarshal(data, &raw); err != nil {
		return metav1.TypeMeta{}, metav1.ListMeta{}, nil, err
	}
	items := make([]T, len(raw.Items))
	for i, item := range raw.Items {
		if _, _, err := d.Decoder.Decode(item, nil, P(&items[i])); err == nil {
			unmark(P(&items[i]))
			continue
		}
		salvaged, err := salvage(item)
		if err != nil {
			return metav1.TypeMeta{}, metav1.ListMeta{}, nil, err
		}
		items[i] = *salvaged
	}
	return raw.TypeMeta, raw.Metadata, items, nil
}

// assign returns what was decoded: in into, if that is not nil.
func assign(decoded, into runtime.Object) (runtime.Object, error) {
	switch into := into.(type) {
	case nil:
		return decoded, nil
	case *v1alpha1.Job:
		if from, ok := decoded.(*v1alpha1.Job); ok {
			*into = *from
			return into, nil
		}
	case *v1alpha1.WorkerPool:
		if from, ok := decoded.(*v1alpha1.WorkerPool); ok {
			*into = *from
			return into, nil
		}
	case *v1alpha1.JobList:
		if from, ok := decoded.(*v1alpha1.JobList); ok {
			*into = *from
			return into, nil
		}
	case *v1alpha1.WorkerPoolList:
		if from, ok := decoded.(*v1alpha1.WorkerPoolList); ok {
			*into = *from
			return into, nil
		}
	}
	return nil, fmt.Errorf("decoding %T into %T", decoded, into)
}
