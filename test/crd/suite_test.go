// Package crd tests what the API server itself says about our kinds: validation, defaults, scale.
package crd

import (
	"os"
	"testing"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var env *testutil.Environment

func TestMain(m *testing.M) { os.Exit(testutil.Run(m, &env)) }
