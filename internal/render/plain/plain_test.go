package plain_test

import (
	"testing"

	"github.com/belaydev/belay/internal/render/plain"
	"github.com/belaydev/belay/internal/render/rendertest"
)

func TestGolden(t *testing.T) { rendertest.RunGolden(t, plain.Render) }
