package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// prover makes and checks the proofs that attempts were given to one pod. All operators of an installation have the
// same key, so that each knows what an earlier leader has given.
type prover struct {
	key []byte
	pod types.UID
}

// proof is a MAC over the token and the pod.
func (p prover) proof(t engine.Token) []byte {
	mac := hmac.New(sha256.New, p.key)
	text := binary.BigEndian.AppendUint32([]byte("workerpool.dev attempt 1\x00"), uint32(t.Index))
	text = binary.BigEndian.AppendUint32(text, uint32(t.Try))
	text = binary.BigEndian.AppendUint64(text, uint64(t.Epoch.LeaseCreated))
	text = binary.BigEndian.AppendUint64(text, uint64(t.Epoch.Transitions))
	for _, uid := range []types.UID{t.Job, p.pod} {
		text = binary.BigEndian.AppendUint32(text, uint32(len(uid)))
		text = append(text, uid...)
	}
	mac.Write(text) // it never fails
	return mac.Sum(nil)
}

// proves tells whether a proof is that of the token. Without a key there are none.
func (p prover) proves(t engine.Token, proof []byte) bool {
	return len(p.key) > 0 && hmac.Equal(proof, p.proof(t))
}
