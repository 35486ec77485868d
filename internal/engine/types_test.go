package engine

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestATokenIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := Token{
			Job: "job-uid",
			Try: rapid.Int32Range(0, maxTry).Draw(t, "try"),
			Epoch: Epoch{
				LeaseCreated: rapid.Int64Range(0, math.MaxInt64).Draw(t, "created"),
				Transitions:  rapid.Int64Range(0, math.MaxInt64).Draw(t, "transitions"),
			},
		}
		text := token.String()
		if len(text) > 64 { // the CRD's bound
			t.Errorf("token %s has %d characters", text, len(text))
		}
		if got, err := ParseToken("job-uid", text); err != nil || got != token {
			t.Errorf("%s is read as %+v, %v, want %+v", text, got, err, token)
		}
	})
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "1", "1.2", "1.2.3.4", "..", "a.2.3", "1.b.3", "1.2.c", "-1.2.3", "1.-2.3", "1.2.-3", " 1.2.3", "1.2.3 ",
		"2147483648.2.3", "1.9223372036854775808.3", "0x1.2.3", "1,2,3",
	} {
		if got, err := ParseToken("job-uid", text); err == nil || got != (Token{}) {
			t.Errorf("%q is read as %+v, %v, want an error alone", text, got, err)
		}
	}
}

func TestTheLaterLeaderOutranksTheHigherTry(t *testing.T) {
	ascending := []Token{
		{Try: 1, Epoch: Epoch{LeaseCreated: 1, Transitions: 9}},
		{Try: 9, Epoch: Epoch{LeaseCreated: 1, Transitions: 9}},
		{Try: 1, Epoch: Epoch{LeaseCreated: 2, Transitions: 0}},
		{Try: 1, Epoch: Epoch{LeaseCreated: 2, Transitions: 1}},
		{Try: 2, Epoch: Epoch{LeaseCreated: 2, Transitions: 1}},
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := min(1, max(-1, i-j))
			if got := a.Compare(b); got != want {
				t.Errorf("%v compared with %v is %d, want %d", a, b, got, want)
			}
		}
	}
}
