package service_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/drivers"
	"labgate/drivers/opcua"
	"labgate/lab"
)

// The telemetry benchmark: a server in one process changes so many nodes ten
// times a second and counts what it has sent; a gateway in another takes it all,
// with every value under an interlock, the journal and NATS beside it.

const (
	telemetryWith = "LABGATE_BENCH_TELEMETRY" // "endpoint nodes": this process is the gateway
	perInstrument = 100
	telemetryRate = 10 // Hz
	telemetryTime = 10 * time.Second
)

// telemetryFigures is what the gateway's process says at its end.
type telemetryFigures struct {
	Values   int64   // taken while it was measured
	Seconds  float64 // for so long
	CPU      float64 // of the whole process meanwhile, in seconds
	All      int64   // values taken altogether
	Resident float64 // the most memory, in MB
}

// telemetryLab has its nodes in instruments of a hundred, and a trip on each of
// them.
func telemetryLab(b *testing.B, endpoint string, nodes int) *configs.Config {
	b.Helper()
	var class, profile, labFile, rules strings.Builder
	class.WriteString("class: many/v1\nabout: Many readings.\nproperties:\n")
	profile.WriteString("profile: bench/many@1\nabout: Many nodes of one server.\ncomponents: {m: many/v1}\nlink: {kind: opcua, namespace: \"urn:bench\", reply_within: 5 s}\nproperties:\n")
	for i := range perInstrument {
		fmt.Fprintf(&class, "  p%d: {unit: mV, max_age: 20 s}\n", i)
		fmt.Fprintf(&profile, "  p%d: {node: \"i=%d\", unit: mV, poll: 20 s, subscribe: 100 ms}\n", i, i+1)
	}
	class.WriteString("commands:\n  off: {effect: safe, within: 2 s, else: alarm}\n")
	profile.WriteString("commands:\n  off: {object: \"s=Object\", method: \"s=Off\"}\nrepeats: none\n")
	labFile.WriteString("lab: telemetry\nkind: simulated\ngateway: bench\ninstruments:\n")
	rules.WriteString("interlocks: telemetry\nrules:\n")
	files := fstest.MapFS{"classes/many.yaml": {Data: []byte(class.String())}}
	for i := range nodes / perInstrument {
		// A namespace for each: the instruments are at one address.
		text := strings.ReplaceAll(profile.String(), "bench/many@1", fmt.Sprintf("bench/many%d@1", i))
		files[fmt.Sprintf("profiles/many%d.yaml", i)] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, "urn:bench", fmt.Sprintf("urn:bench:%d", i)))}
		fmt.Fprintf(&labFile, "  m%d: {profile: bench/many%d@1, link: {endpoint: %q, insecure: true}, safe: [m.off], on_lease_loss: keep}\n", i, i, endpoint)
		for first := 0; first < perInstrument; first += 10 {
			var when []string
			for p := first; p < first+10; p++ {
				when = append(when, fmt.Sprintf("m%d.p%d > 1000000 mV", i, p))
			}
			fmt.Fprintf(&rules, "  - {id: high-%d-%d, trip: m%d, when: %s, unknown_for: 60 s, do: [m%d.off], run: hold}\n", i, first, i, strings.Join(when, " or "), i)
		}
	}
	labFile.WriteString("interlocks: interlocks.yaml\nnats: {embedded: {}}\n")
	files["lab.yaml"], files["interlocks.yaml"] = &fstest.MapFile{Data: []byte(labFile.String())}, &fstest.MapFile{Data: []byte(rules.String())}
	cfg, err := configs.Load(files, "telemetry")
	if err != nil {
		b.Fatal(err)
	}
	return cfg
}

// counted counts what a link tells.
type counted struct {
	drivers.Sink
	n *atomic.Int64
}

func (c counted) Samples(list []lab.Sample) {
	c.n.Add(int64(len(list)))
	c.Sink.Samples(list)
}

// BenchmarkTelemetryClient is the gateway's process of BenchmarkTelemetry.
func BenchmarkTelemetryClient(b *testing.B) {
	endpoint, count, ok := strings.Cut(os.Getenv(telemetryWith), " ")
	if !ok {
		b.Skip("it is a part of BenchmarkTelemetry")
	}
	nodes, err := strconv.Atoi(count)
	if err != nil {
		b.Fatal(err)
	}
	var taken atomic.Int64
	_, end := startOver(b, telemetryLab(b, endpoint, nodes), map[lab.LinkKind]drivers.Opener{lab.LinkOPCUA: func(c drivers.Config) (drivers.Link, error) {
		c.Sink = counted{c.Sink, &taken}
		return opcua.Open(c)
	}})
	for taken.Load() < int64(2*nodes) { // the first of each, and one round more
		time.Sleep(10 * time.Millisecond)
	}
	n, cpu, at := taken.Load(), cpuSeconds(), time.Now()
	time.Sleep(telemetryTime)
	f := telemetryFigures{Values: taken.Load() - n, Seconds: time.Since(at).Seconds(), CPU: cpuSeconds() - cpu}
	for last := int64(-1); last != taken.Load(); time.Sleep(time.Second) { // until the server has ended
		last = taken.Load()
	}
	f.All = taken.Load()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	f.Resident = float64(u.Maxrss) / 1024
	end()
	out, err := json.Marshal(f)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("figures %s\n", out)
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkTelemetry prints the figures of 5,000 and 10,000 nodes at 10 Hz, and
// those of Telegraf where TELEGRAF names its program.
func BenchmarkTelemetry(b *testing.B) {
	for _, nodes := range []int{5_000, 10_000} {
		b.Run(strconv.Itoa(nodes), func(b *testing.B) {
			for b.Loop() {
				s := newTelemetryServer(b, nodes/perInstrument)
				me := exec.Command(os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkTelemetryClient$", "-test.benchtime", "1x")
				me.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", telemetryWith, s.endpoint(), nodes))
				out, err := me.Output()
				sent := s.end()
				_, line, ok := strings.Cut(string(out), "figures ")
				var f telemetryFigures
				if ok {
					err = json.NewDecoder(strings.NewReader(line)).Decode(&f)
				}
				if err != nil || !ok {
					b.Fatalf("%v\n%s", err, out)
				}
				b.ReportMetric(float64(f.Values)/f.Seconds, "values/s")
				b.ReportMetric(f.CPU/float64(f.Values)*1e6, "cpu-us/value")
				b.ReportMetric(f.Resident, "MB")
				b.ReportMetric(float64(sent-f.All), "lost")
				b.ReportMetric(0, "ns/op") // it waits for its schedule
				if telegraf := os.Getenv("TELEGRAF"); telegraf != "" {
					benchTelegraf(b, telegraf, nodes)
				}
			}
		})
	}
}

// benchTelegraf gives the same nodes to Telegraf's opcua_listener, which writes
// them to a file and evaluates nothing.
func benchTelegraf(b *testing.B, program string, nodes int) {
	s := newTelemetryServer(b, nodes/perInstrument)
	dir := b.TempDir()
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "[agent]\n  interval = \"1s\"\n  flush_interval = \"1s\"\n  metric_batch_size = 10000\n  metric_buffer_limit = 200000\n  omit_hostname = true\n")
	fmt.Fprintf(&cfg, "[[outputs.file]]\n  files = [%q]\n[[inputs.opcua_listener]]\n  endpoint = %q\n  security_policy = \"None\"\n  security_mode = \"None\"\n  auth_method = \"Anonymous\"\n  subscription_interval = \"100ms\"\n  nodes = [\n", dir+"/out", s.endpoint())
	for i := range nodes {
		fmt.Fprintf(&cfg, "    {name=\"p\", namespace=\"%d\", identifier_type=\"i\", identifier=\"%d\"},\n", firstNamespace+i/perInstrument, i%perInstrument+1)
	}
	cfg.WriteString("  ]\n")
	if err := os.WriteFile(dir+"/telegraf.conf", []byte(cfg.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	t := exec.Command(program, "--config", dir+"/telegraf.conf", "--quiet")
	if err := t.Start(); err != nil {
		b.Fatal(err)
	}
	time.Sleep(telemetryTime + 5*time.Second)
	_ = t.Process.Signal(os.Interrupt)
	_ = t.Wait() // it was interrupted
	sent := s.end()
	u := t.ProcessState.SysUsage().(*syscall.Rusage)
	b.ReportMetric(float64(u.Utime.Nano()+u.Stime.Nano())/1e3/float64(sent), "telegraf-cpu-us/value")
	b.ReportMetric(float64(u.Maxrss)/1024, "telegraf-MB")
}
