package planner

import (
	"errors"
	"math"
	"sort"

	"gonum.org/v1/gonum/mat"

	"labgate/lab"
)

// What is held to be likely before anything was measured: gold colloids of 10
// to 60 nm have their plasmon peak between about 515 and 550 nm.
const (
	priorPeak = 530.0 // nm
	priorBias = 10.0  // nm, standard deviation of the level of the whole surface
)

// maxPoints bounds what the process is fitted to: its cost grows with the cube.
const maxPoints = 60

// point is one measurement: where, normalised to 0…1 an axis, and the peak in nm.
type point struct {
	x [2]float64
	y float64
}

// hyper are the parameters of the process.
type hyper struct {
	scale  [2]float64 // length scales, in normalised inputs
	signal float64    // nm, standard deviation of the surface around its level
	noise  float64    // nm, standard deviation of one measurement
}

// The grid that the parameters are chosen from, and their medians before any
// data. Three measurements say little about length scales; the grid and the
// log-normal priors around the medians keep the choice sensible.
var (
	scales  = []float64{0.3, 0.6, 1.2, 2.4}
	signals = []float64{4, 8, 16, 32}
	noises  = []float64{0.25, 0.5, 1, 2}
	medians = hyper{[2]float64{0.6, 0.6}, 8, 0.5}
)

// spread is the standard deviation of the logarithm of each parameter.
const spread = 0.8

// model is a Gaussian process with a constant but unknown level and a Matérn
// 5/2 covariance (Rasmussen and Williams, Gaussian Processes for Machine
// Learning, 2006, equations 2.25, 2.26 and 4.17).
type model struct {
	h       hyper
	xs      [][2]float64
	alpha   mat.VecDense // (K + noise²)⁻¹ (y - priorPeak)
	inverse mat.SymDense // (K + noise²)⁻¹
}

// fit chooses the parameters with the highest posterior density and conditions
// the process on the points. Without points it is the prior.
func fit(points []point) (*model, error) {
	if len(points) == 0 {
		return &model{h: medians}, nil
	}
	var best *model
	var chol mat.Cholesky
	bestScore := math.Inf(-1)
	for _, s0 := range scales {
		for _, s1 := range scales {
			for _, signal := range signals {
				for _, noise := range noises {
					m, c, score := condition(points, hyper{[2]float64{s0, s1}, signal, noise})
					if score > bestScore {
						best, chol, bestScore = m, c, score
					}
				}
			}
		}
	}
	if best == nil || chol.InverseTo(&best.inverse) != nil {
		return nil, lab.E("planner: fit", "", lab.KindInternal, errors.New("no covariance of the measurements can be inverted"))
	}
	return best, nil
}

// condition computes the process for given parameters but for its inverse, and
// the logarithm of the marginal likelihood times their prior, up to a
// constant; -Inf where it can't be done.
func condition(points []point, h hyper) (*model, mat.Cholesky, float64) {
	var chol mat.Cholesky
	n := len(points)
	m := &model{h: h, xs: make([][2]float64, n)}
	k, y := mat.NewSymDense(n, nil), mat.NewVecDense(n, nil)
	for i, p := range points {
		m.xs[i] = p.x
		y.SetVec(i, p.y-priorPeak)
		for j := range i {
			k.SetSym(i, j, h.covariance(p.x, points[j].x))
		}
		k.SetSym(i, i, h.covariance(p.x, p.x)+h.noise*h.noise)
	}
	if !chol.Factorize(k) || chol.SolveVecTo(&m.alpha, y) != nil {
		return nil, chol, math.Inf(-1)
	}
	return m, chol, -0.5*mat.Dot(y, &m.alpha) - 0.5*chol.LogDet() + h.logPrior()
}

func (h hyper) logPrior() float64 {
	sum := 0.0
	for _, r := range []float64{h.scale[0] / medians.scale[0], h.scale[1] / medians.scale[1], h.signal / medians.signal, h.noise / medians.noise} {
		z := math.Log(r) / spread
		sum -= z * z / 2
	}
	return sum
}

// covariance of the peak at two places, in nm².
func (h hyper) covariance(a, b [2]float64) float64 {
	d0, d1 := (a[0]-b[0])/h.scale[0], (a[1]-b[1])/h.scale[1]
	r := math.Sqrt(5 * (d0*d0 + d1*d1))
	return priorBias*priorBias + h.signal*h.signal*(1+r+r*r/3)*math.Exp(-r)
}

// predict gives the mean of the peak at x and the standard deviation of that
// mean, both in nm. A measurement there scatters by h.noise more.
func (m *model) predict(x [2]float64) (mean, sd float64) {
	variance := m.h.covariance(x, x)
	if len(m.xs) == 0 {
		return priorPeak, math.Sqrt(variance)
	}
	k := make([]float64, len(m.xs))
	mean = priorPeak
	for i := range m.xs {
		k[i] = m.h.covariance(x, m.xs[i])
		mean += k[i] * m.alpha.AtVec(i)
		variance -= k[i] * k[i] * m.inverse.At(i, i)
		for j := range i {
			variance -= 2 * k[i] * k[j] * m.inverse.At(i, j)
		}
	}
	return mean, math.Sqrt(max(0, variance))
}

// expectedImprovement is the mean of max(0, best - |f - target|) for a normal
// f, in nm: how much closer than best to the target f is expected to come.
func expectedImprovement(mean, sd, target, best float64) float64 {
	if best <= 0 {
		return 0
	}
	if sd <= 0 {
		return max(0, best-math.Abs(mean-target))
	}
	lo, mid, hi := (target-best-mean)/sd, (target-mean)/sd, (target+best-mean)/sd
	// ∫ (f - (target - best)) from target - best to target, and its mirror image.
	rising := (mean-target+best)*(cdf(mid)-cdf(lo)) - sd*(pdf(mid)-pdf(lo))
	falling := (target+best-mean)*(cdf(hi)-cdf(mid)) + sd*(pdf(hi)-pdf(mid))
	return max(0, rising+falling)
}

func pdf(z float64) float64 { return math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) }
func cdf(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }

// relevant keeps the points that say most about where the target is, at most
// maxPoints: those whose peak is nearest to it. Ties go to the earlier one.
func relevant(points []point, target float64) []point {
	if len(points) <= maxPoints {
		return points
	}
	kept := append([]point(nil), points...)
	sort.SliceStable(kept, func(i, j int) bool { return math.Abs(kept[i].y-target) < math.Abs(kept[j].y-target) })
	return kept[:maxPoints]
}
