package helm_test

import (
	"testing"

	"github.com/belaydev/belay/internal/render/helm"
	"github.com/belaydev/belay/internal/render/rendertest"
)

func TestGolden(t *testing.T) { rendertest.RunGolden(t, helm.Render) }
