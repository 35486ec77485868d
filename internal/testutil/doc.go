// Package testutil has what the tests of several packages need: a real API server to run controllers
// against, and builders of objects.
package testutil
