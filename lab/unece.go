package lab

// uneceUnits are the common codes of UNECE Recommendation 20 for the units that
// instruments have. OPC UA names a unit by such a code (OPC 10000-8, 5.6.4).
var uneceUnits = map[string]string{
	"C62": "1", "P1": "%", "59": "[ppm]",
	"CEL": "degC", "FAH": "degF",
	"MTR": "m", "CMT": "cm", "MMT": "mm", "4H": "um", "C45": "nm",
	"MTQ": "m3", "LTR": "L", "CLT": "cL", "MLT": "mL", "4G": "uL",
	"KGM": "kg", "GRM": "g", "MGM": "mg", "MC": "ug",
	"SEC": "s", "C26": "ms", "B98": "us", "MIN": "min", "HUR": "h", "DAY": "d",
	"PAL": "Pa", "KPA": "kPa", "MPA": "MPa", "BAR": "bar", "MBR": "mbar",
	"HTZ": "Hz", "KHZ": "kHz", "MHZ": "MHz", "RPM": "rpm",
	"VLT": "V", "2Z": "mV", "KVT": "kV", "AMP": "A", "4K": "mA", "B84": "uA",
	"OHM": "Ohm", "WTT": "W", "KWT": "kW", "C31": "mW", "JOU": "J", "KJO": "kJ", "NEW": "N",
	"MTS": "m/s", "C16": "mm/s", "2M": "cm/s", "2X": "m/min",
	"L2": "L/min", "41": "mL/min", "40": "mL/s", "G51": "L/s",
	"C34": "mol", "C18": "mmol", "C36": "mol/m3", "C35": "mol/L",
	"DD": "deg", "C81": "rad",
}

// UNECEUnit finds the unit of an OPC UA unit id: the characters of the common
// code, most significant first. ok is false for codes that are not in the table,
// and for kelvin: it may be a temperature or a difference.
func UNECEUnit(id int32) (u Unit, ok bool) {
	var code []byte
	for x := uint32(id); x > 0; x >>= 8 {
		code = append([]byte{byte(x)}, code...)
	}
	text, ok := uneceUnits[string(code)]
	if !ok {
		return Unit{}, false
	}
	u, err := ParseUnit(text)
	return u, err == nil
}

// UNECEID is the OPC UA id of a unit, 0 for one that is not in the table.
func UNECEID(u Unit) int32 {
	for code, text := range uneceUnits {
		if v, err := ParseUnit(text); err == nil && v == u {
			var id int32
			for _, c := range []byte(code) {
				id = id<<8 | int32(c)
			}
			return id
		}
	}
	return 0
}
