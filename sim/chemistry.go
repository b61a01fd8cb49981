package sim

import "math"

// Nucleation and growth of gold nanoparticles in one well-mixed vessel, by the
// moments of their radius distribution.
//
//	reduction   Au(III) → Au(I) → Au(0), each k_r(T)·[cit]/([cit]+K)·mixing   Arrhenius, 1/s
//	saturation  S = c/c_s(T)
//	nucleation  B = A·exp(−16πγ³v²/(3(kT)³ln²S))           classical theory; citrate lowers γ
//	growth      dR/dt = D·v·(c − c_s)/(R + D/k_s)           diffusion and surface, at the mean radius
//	moments     dμ0/dt = B, dμk/dt = B·r0^k + k·G·μ(k−1)
//
// The constants are no measurement: they are tuned so that a synthesis is over within seconds, more citrate gives
// smaller particles (Turkevich, Frens), and so does heat where citrate is scarce.
//
// Radii in nm, moments in nm^k per mL, concentrations in mmol/L.
const (
	gasConstant = 8.314     // J/(mol K)
	boltzmann   = 1.381e-23 // J/K
	goldAtom    = 1.695e-29 // m³
	goldPerNM3  = 4.107e-16 // mmol/L of gold in a particle volume of 4π/3 nm³ per mL

	reductionRate   = 3.2     // 1/s at 70 degC
	reductionEnergy = 10e3    // J/mol
	citrateHalf     = 0.1     // mmol/L
	citratePerGold  = 1.5     // mol/mol
	saturation70    = 0.0079  // mmol/L
	saturationHeat  = 14.8e3  // J/mol
	nucleationRate  = 1.6e15  // 1/(mL s)
	surfaceEnergy   = 0.167   // J/m², bare
	citrateShield   = 0.85    // of the surface energy, at full coverage
	coverageHalf    = 30.0    // citrate per gold, mol/mol
	nucleusRadius   = 1.0     // nm
	diffusion       = 1e9     // nm²/s at 70 degC
	diffusionEnergy = 5e3     // J/mol
	molarVolume     = 1.02e-5 // L/mmol
	surfaceLength   = 117.0   // nm, D/k_s
	mixingSpeed     = 150.0   // rpm
	quenchStrength  = 60.0    // per volume fraction of quench liquid
	reacted         = 1e-4    // mmol/L, too little to matter
)

// mixture is what is in the vessel, apart from its volume.
type mixture struct {
	gold, citrate, quench float64
	half                  float64 // gold on its way, Au(I)
	monomer               float64 // reduced gold that is still dissolved
	mu                    [4]float64
	settled               bool // nothing more will happen to it
}

// add mixes dv of liquid into a volume v.
func (m *mixture) add(v, dv float64, in liquid) {
	a, b := v/(v+dv), dv/(v+dv)
	m.gold = a*m.gold + b*in.gold
	m.citrate = a*m.citrate + b*in.citrate
	m.quench = a*m.quench + b*in.quench
	m.half *= a
	m.monomer *= a
	for k := range m.mu {
		m.mu[k] *= a
	}
	m.settled = false
}

func arrhenius(energy, kelvin float64) float64 {
	return math.Exp(-energy / gasConstant * (1/kelvin - 1/343.15))
}

// react advances the chemistry by one tick. Growth takes from the monomer what
// it puts into particles, exactly, so gold is neither made nor lost.
func (m *mixture) react(celsius, speed float64) {
	if m.settled {
		return
	}
	kelvin := celsius + 273.15
	mixing := 1 - 0.9*math.Exp(-speed/mixingSpeed)
	stop := math.Exp(-quenchStrength * m.quench)

	made := m.reduce(reductionRate * arrhenius(reductionEnergy, kelvin) * mixing * stop)
	cs := saturation70 * arrhenius(saturationHeat, kelvin)
	nuclei := m.nucleate(kelvin, cs, mixing) * dt * stop
	born := nuclei * goldPerNM3 * nucleusRadius * nucleusRadius * nucleusRadius
	if free := math.Max(0, m.monomer-cs); born > 0.5*free {
		nuclei, born = nuclei*0.5*free/born, 0.5*free
	}
	m.monomer -= born

	grown := m.grow(kelvin, cs, made, stop)
	r := nucleusRadius
	var g float64 // nm of radius in this tick
	if m.mu[2] > 0 {
		g = grown / (goldPerNM3 * 3 * m.mu[2])
	}
	m.mu[3] += grown/goldPerNM3 + nuclei*r*r*r
	m.mu[2] += 2*g*m.mu[1] + nuclei*r*r
	m.mu[1] += g*m.mu[0] + nuclei*r
	m.mu[0] += nuclei
	m.settled = m.half < reacted && (m.gold < reacted || m.citrate < reacted) && m.monomer < cs+reacted
}

// reduce lets citrate reduce gold in two equal steps of rate k (1/s), and
// returns the metal made. Gold without citrate stays as it is.
func (m *mixture) reduce(k float64) float64 {
	part := 1 - math.Exp(-k*m.citrate/(m.citrate+citrateHalf)*dt)
	first, second := math.Min(m.gold*part, m.citrate/citratePerGold), m.half*part
	m.gold -= first
	m.half += first - second
	m.citrate -= first * citratePerGold
	return second
}

// nucleate is the rate of new particles, per mL and second.
func (m *mixture) nucleate(kelvin, cs, mixing float64) float64 {
	s := m.monomer / cs
	if s <= 1.5 {
		return 0
	}
	cover := m.citrate * mixing / (m.citrate*mixing + coverageHalf*(m.gold+m.half+m.monomer+m.metal()))
	gamma := surfaceEnergy * (1 - citrateShield*cover)
	kt, ln := boltzmann*kelvin, math.Log(s)
	barrier := 16 * math.Pi * gamma * gamma * gamma * goldAtom * goldAtom / (3 * kt * kt * kt * ln * ln)
	return nucleationRate * math.Exp(-barrier)
}

// grow adds what was made to the monomer, lets the particles take their part
// in one exact step of the linear law, and returns what they took.
func (m *mixture) grow(kelvin, cs, made, stop float64) float64 {
	if m.mu[2] <= 0 {
		m.monomer += made
		return 0
	}
	radius := m.mu[1] / m.mu[0]
	d := diffusion * arrhenius(diffusionEnergy, kelvin) * stop
	k := goldPerNM3 * 3 * m.mu[2] * d * molarVolume / (radius + surfaceLength) // 1/s
	decay := math.Exp(-k * dt)
	before := m.monomer + made
	after := cs + (m.monomer-cs)*decay + made
	if k*dt > 1e-9 {
		after = cs + (m.monomer-cs)*decay + made*(1-decay)/(k*dt)
	}
	after = math.Min(after, before) // particles do not dissolve here
	m.monomer = after
	return before - after
}

// diameter is the volume-weighted mean, in nm: what an absorbance sees. Zero
// without particles.
func (m *mixture) diameter() float64 {
	if m.mu[2] <= 0 {
		return 0
	}
	return 2 * m.mu[3] / m.mu[2]
}

// spread is the relative standard deviation of the radius.
func (m *mixture) spread() float64 {
	if m.mu[1] <= 0 || m.mu[0] <= 0 {
		return 0
	}
	return math.Sqrt(math.Max(0, m.mu[2]*m.mu[0]/(m.mu[1]*m.mu[1])-1))
}

// metal is gold in particles, in mmol/L.
func (m *mixture) metal() float64 { return m.mu[3] * goldPerNM3 }
