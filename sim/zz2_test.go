package sim
import ("testing";"fmt")
func TestZ2(t *testing.T) {
	w := NewDemo(1,start); moveTo(w,2,0,1.2)
	for i:=0;w.stage.busy&&i<60;i++ { run(w,Tick); if i>15 {fmt.Println(i, w.stage.axes[2])} }
}
