package disk
import ("testing";"os";"strconv";"log/slog";"os/exec";"path/filepath";"errors";"math/rand/v2";"wheelhouse/internal/faultfs")
func TestDebug(t *testing.T) {
	seed,_ := strconv.ParseUint(os.Getenv("SEED"),10,64); after,_ := strconv.Atoi(os.Getenv("AFTER"))
	dir := t.TempDir()
	data, stash := filepath.Join(dir, "data"), filepath.Join(dir, "stash")
	errors.Join(os.Mkdir(data, 0o755), os.Mkdir(stash, 0o755))
	r := rand.New(rand.NewPCG(seed, 1))
	p := faultfs.NewPowerCut(stash, after)
	m := newModel()
	o := crashOptions(p); o.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	workload(data, o, r, 60, m)
	p.Cut()
	if seed%4 == 0 { r = nil }
	b,_ := exec.Command("find", data, "-type","f").CombinedOutput(); t.Log(string(b))
	if err := p.Restore(r); err != nil { t.Fatal(err) }
	b,_ = exec.Command("find", data, "-type","f").CombinedOutput(); t.Log(string(b))
	o.FS=nil
	d, err := Open(data, o); if err != nil { t.Fatal(err) }
	if err := m.check(d); err != nil { t.Error(err) }
	d.kill()
}
