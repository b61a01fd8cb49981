package sim
import ("testing";"os")
func TestZZ(t *testing.T) {
	w := droplet(t,0,0,1.2); f,_ := capture(t,w,20); os.WriteFile("/tmp/f1.png",f.PNG,0o644)
	moveTo(w,0,0,1.17); run(w,1e9); f,_ = capture(t,w,20); os.WriteFile("/tmp/f2.png",f.PNG,0o644)
}
