package gearmand_test

import (
	"testing"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
)

func TestTranscripts(t *testing.T) {
	gearmantest.Run(t, func(t *testing.T) string { return serve(t, gearmand.Options{}).addr }, false)
}

// Gearman's own server says the same wherever a transcript does not claim otherwise.
func TestTranscriptsAgainstDebian(t *testing.T) {
	gearmantest.Run(t, func(t *testing.T) string { return gearmantest.StartDebian(t) }, true)
}
