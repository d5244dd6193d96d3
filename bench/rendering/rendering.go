// Package rendering measures what Belay's render workers cost beside the
// libraries that they run: the same sources, on the same machine, in turns.
//
// It is the one place of the benchmarks that knows a package of the program, the
// pool of workers: beside it the libraries can be called in the same process, and
// the workers are those of the real program. It must not know the rest of it.
package rendering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
)

// Options of a measurement.
type Options struct {
	// Belay is the program whose workers are measured.
	Belay string
	// Applications are how many different ones are rendered, of each kind.
	Applications int
	// Renders of each kind in one round, each way.
	Renders int
	// Rounds of both ways in turns; the median counts.
	Rounds int
	// Starts of a pool; the median counts.
	Starts int
	// Below is the processor time of all processes below this one so far, in seconds.
	Below func() float64
}

// Cost is what one way of rendering took.
type Cost struct {
	// PerSecond is how many renders ended in a second, on all processors.
	PerSecond float64 `json:"perSecond"`
	// CPU of one render in milliseconds, of every process that took part.
	CPU float64 `json:"cpuMs"`
	// Worker is the part of it that the worker processes took.
	Worker float64 `json:"workerCpuMs,omitempty"`
}

// Result is of one kind of source.
type Result struct {
	Kind    string `json:"kind"`
	Library Cost   `json:"library"`
	Pool    Cost   `json:"pool"`
	// Ratio is the time of a render in the pool over that of the library.
	Ratio float64 `json:"ratio"`
	// RatioCPU is the same of processor time, which the load of the machine leaves alone.
	RatioCPU float64 `json:"ratioCpu"`
	// Start is the time from the start of a pool to its first answer, in milliseconds.
	Start float64 `json:"startMs"`
	// Objects of one application, the same both ways.
	Objects int `json:"objects"`
	// Differ are how many applications do not come out the same both ways.
	Differ int `json:"differ"`
}

// key makes the digests of Secrets, of which there are none here.
var key = []byte("a key that protects nothing at all")

// Kinds are what can be measured.
var Kinds = []string{"plain", "kustomize", "helm"}

// Measure measures one kind.
func Measure(ctx context.Context, kind string, o Options) (Result, error) {
	src, err := newSource(kind, o.Applications)
	if err != nil {
		return Result{}, err
	}
	res := Result{Kind: kind}
	if err := res.check(ctx, src, o); err != nil {
		return res, err
	}
	var library, pool []Cost
	for range o.Rounds {
		c, err := measure(ctx, o.Renders, func(_ context.Context, i int) error {
			_, err := src.library(i % o.Applications)
			return err
		})
		if err != nil {
			return res, err
		}
		library = append(library, c)
		if c, err = measurePool(ctx, src, o); err != nil {
			return res, err
		}
		pool = append(pool, c)
	}
	res.Library, res.Pool = median(library), median(pool)
	res.Ratio, res.RatioCPU = res.Library.PerSecond/res.Pool.PerSecond, res.Pool.CPU/res.Library.CPU
	var starts []float64
	for range o.Starts {
		ms, err := start(ctx, src, o)
		if err != nil {
			return res, err
		}
		starts = append(starts, ms)
	}
	slices.Sort(starts)
	res.Start = starts[len(starts)/2]
	return res, nil
}

func median(costs []Cost) Cost {
	slices.SortFunc(costs, func(a, b Cost) int { return cmp.Compare(a.CPU, b.CPU) })
	return costs[len(costs)/2]
}

// check renders each application both ways and compares.
func (r *Result) check(ctx context.Context, src *source, o Options) error {
	p, err := newPool(o)
	if err != nil {
		return err
	}
	defer p.Close()
	for i := range o.Applications {
		want, err := src.library(i)
		if err != nil {
			return err
		}
		got, err := p.Render(ctx, src, src.request(i))
		if err != nil {
			return fmt.Errorf("render in the pool: %w", err)
		}
		if r.Objects = len(got.Objects); !same(want, got.Objects) {
			r.Differ++
		}
	}
	return nil
}

// same compares objects whatever their order.
func same(a, b []belay.Object) bool {
	of := func(objects []belay.Object) []string {
		var out []string
		for _, o := range objects {
			out = append(out, o.ID.String()+" "+o.Digest+" "+string(o.Raw))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(of(a), of(b))
}

func newPool(o Options) (*render.Pool, error) {
	p, err := render.NewPool(render.Options{Key: key, Command: []string{o.Belay, render.WorkerArgument}})
	if err != nil {
		return nil, fmt.Errorf("start a pool of %s: %w", o.Belay, err)
	}
	return p, nil
}

func measurePool(ctx context.Context, src *source, o Options) (Cost, error) {
	p, err := newPool(o)
	if err != nil {
		return Cost{}, err
	}
	defer p.Close()
	// All workers start, and learn what they need, before it counts.
	if err := inParallel(ctx, 10*runtime.NumCPU(), func(ctx context.Context, i int) error { return src.pool(ctx, p, i%o.Applications) }); err != nil {
		return Cost{}, err
	}
	before := o.Below()
	c, err := measure(ctx, o.Renders, func(ctx context.Context, i int) error { return src.pool(ctx, p, i%o.Applications) })
	if err != nil {
		return Cost{}, err
	}
	c.Worker = (o.Below() - before) * 1000 / float64(o.Renders)
	c.CPU += c.Worker
	return c, nil
}

// measure does n renders on all processors.
func measure(ctx context.Context, n int, do func(context.Context, int) error) (Cost, error) {
	runtime.GC() // what was before is not what is measured
	began, before := time.Now(), cpu()
	err := inParallel(ctx, n, do)
	took := time.Since(began)
	return Cost{PerSecond: float64(n) / took.Seconds(), CPU: ms(cpu()-before) / float64(n)}, err
}

// inParallel has one more goroutine than processors, so that a worker never waits for its next render.
func inParallel(ctx context.Context, n int, do func(context.Context, int) error) error {
	var next atomic.Int64
	errs := make([]error, runtime.NumCPU()+1)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[g] == nil; i = int(next.Add(1)) - 1 {
				errs[g] = do(ctx, i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// start is the time of a pool's start until its first answer.
func start(ctx context.Context, src *source, o Options) (float64, error) {
	began := time.Now()
	p, err := newPool(o)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if err := src.pool(ctx, p, 0); err != nil {
		return 0, err
	}
	return ms(time.Since(began)), nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpu is what this process took so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it fails for a wrong argument alone
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
