package sim

import "math"

// golden is the increment of splitmix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", 2014).
const golden = 0x9e3779b97f4a7c15

// mix is splitmix64's finaliser: a bijection whose output bits all depend on
// all input bits.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// source makes one model's or one sensor's key: equal names under equal seeds
// give equal noise, and nothing else moves it.
func source(seed uint64, name string) uint64 {
	k := mix(seed + golden)
	for i := range len(name) {
		k = mix(k ^ uint64(name[i])*golden)
	}
	return k
}

// unit turns 64 bits into a number above 0 and at most 1.
func unit(x uint64) float64 { return (float64(x>>11) + 1) / (1 << 53) }

// normalAt is a standard normal deviate that belongs to (key, n) and is the
// same whenever it is asked for. Box and Muller's form.
func normalAt(key, n uint64) float64 {
	a := mix(key ^ mix(n+golden))
	b := mix(a + golden)
	return math.Sqrt(-2*math.Log(unit(a))) * math.Cos(2*math.Pi*unit(b))
}

// stream is a sequence of numbers of its own for one model.
type stream struct{ key, n uint64 }

func (s *stream) next() uint64 {
	s.n++
	return mix(s.key + s.n*golden)
}

// uniform is above 0 and at most 1.
func (s *stream) uniform() float64 { return unit(s.next()) }

// normal is a standard normal deviate.
func (s *stream) normal() float64 {
	s.n++
	return normalAt(s.key, s.n)
}

// weibull is a deviate with the given scale and shape, both positive.
func (s *stream) weibull(scale, shape float64) float64 {
	return scale * math.Pow(-math.Log(s.uniform()), 1/shape)
}
