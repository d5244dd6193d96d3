package source

import (
	"archive/tar"
	"context"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/registrytest"
)

func templates(value string) map[string]string {
	return map[string]string{"values.yaml": "value: " + value + "\n", "templates/a.yaml": "kind: ConfigMap\n"}
}

func check(t *testing.T, h *Hub, url string) {
	t.Helper()
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, h *Hub, url, ref, name, digest string) {
	t.Helper()
	if rev, err := h.Revision(url, ref); err != nil || rev.Name != name || rev.Commit != digest {
		t.Fatalf("%s of %s is %s %s, %v; want %s %s", ref, url, rev.Name, rev.Commit, err, name, digest)
	}
}

func readAll(t *testing.T, h *Hub, url, digest, file string) string {
	t.Helper()
	s, err := h.Snapshot(t.Context(), url, digest)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func basic(user, password string) func(context.Context) (git.Auth, error) {
	return func(context.Context) (git.Auth, error) {
		return git.Auth{Username: user, Password: []byte(password)}, nil
	}
}

func TestChartsOfAHelmRepository(t *testing.T) {
	s := registrytest.ServeHelm(t, "belay", password)
	first := s.Publish("web", "1.1.0", templates("1"))
	s.Publish("web", "2.0.0", templates("2"))
	s.Publish("web", "1.9.0-rc.1", templates("rc"))
	url := belay.ChartURL(s.URL, "web")
	dir := t.TempDir()
	n := &notes{}
	h := newHub(t, dir, Options{Notify: n.notify})
	h.SetFollowed(map[string][]string{url: {"^1", "*", "1.9.0-rc.1"}})
	if err := h.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeForbidden || strings.Contains(err.Error(), password) {
		t.Fatalf("without credentials: %v", err)
	}
	h.Configure([]RepoConfig{{URL: s.URL, Auth: basic("belay", password)}})
	check(t, h, url)
	mustBe(t, h, url, "^1", "1.1.0", first)
	if rev, _ := h.Revision(url, "*"); rev.Name != "2.0.0" || rev.Subject != "web 2.0.0" {
		t.Errorf("the newest is %+v", rev)
	}
	if got := readAll(t, h, url, first, "values.yaml"); got != "value: 1\n" {
		t.Errorf("values are %q", got)
	}

	// Nothing new costs one conditional request.
	before := len(s.Requests())
	check(t, h, url)
	if got := s.Requests()[before:]; !slices.Equal(got, []string{"GET /index.yaml"}) {
		t.Errorf("at rest: %v", got)
	}

	// A new version in the range, in which one file is another.
	told := n.count()
	second := s.Publish("web", "1.2.0", templates("3"))
	if h.Poke(s.URL) != 1 {
		t.Error("the push hook does not know the repository")
	}
	check(t, h, url)
	mustBe(t, h, url, "^1", "1.2.0", second)
	if n.count() == told {
		t.Error("nobody was told")
	}
	changes, err := h.Diff(t.Context(), url, first, second)
	if err != nil || len(changes) != 2 || changes[0].Path != "Chart.yaml" || changes[1].Path != "values.yaml" {
		t.Errorf("the difference is %v, %v", changes, err)
	}

	// The registry is down, also for a process that starts anew.
	s.SetDown(true)
	if err := h.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("while it is down: %v", err)
	}
	h2 := newHub(t, dir, Options{})
	h2.SetFollowed(map[string][]string{url: {"^1"}})
	mustBe2, err := h2.Revision(url, "^1")
	if err != nil || mustBe2.Commit != second || readAll(t, h2, url, second, "values.yaml") != "value: 3\n" {
		t.Errorf("after a restart: %+v, %v", mustBe2, err)
	}
	_ = h2.CheckNow(t.Context(), url)
	if rev, err := h2.Revision(url, "^1"); rev.Commit != second || err == nil {
		t.Errorf("after a restart and a look: %+v, %v", rev, err)
	}
	s.SetDown(false)

	// What is on disk is checked.
	file := filepath.Join(dir, "artifacts", "contents", strings.TrimPrefix(second, "sha256:"))
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	h3 := newHub(t, dir, Options{})
	h3.Configure([]RepoConfig{{URL: s.URL, Auth: basic("belay", password)}})
	h3.SetFollowed(map[string][]string{url: {"^1"}})
	if got := readAll(t, h3, url, second, "values.yaml"); got != "value: 3\n" {
		t.Errorf("a damaged file gives %q", got)
	}
}

func TestAnIndexWithoutDigests(t *testing.T) {
	s := registrytest.ServeHelm(t, "", "")
	s.NoDigests = true
	first := s.Publish("web", "1.1.0", templates("1"))
	url := belay.ChartURL(s.URL, "web")
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{url: {"1.1.0"}})
	check(t, h, url)
	mustBe(t, h, url, "1.1.0", "1.1.0", first)
	before := len(s.Requests())
	check(t, h, url)
	if got := s.Requests()[before:]; len(got) != 1 {
		t.Errorf("at rest: %v", got)
	}
}

func TestAChartThatIsNotWhatWasPromised(t *testing.T) {
	s := registrytest.ServeHelm(t, "", "")
	good := s.Publish("web", "1.0.0", templates("1"))
	url := belay.ChartURL(s.URL, "web")
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{url: {"^1"}})
	check(t, h, url)
	s.Publish("web", "1.1.0", templates("2"))
	s.Replace("web", "1.1.0", registrytest.Chart(t, "web", "1.1.0", templates("evil")))
	err := h.CheckNow(t.Context(), url)
	if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "digest") {
		t.Errorf("the error is %v", err)
	}
	if rev, err := h.Revision(url, "^1"); rev.Commit != good || err == nil {
		t.Errorf("the last good one is %+v, %v", rev, err)
	}
	for _, tc := range []struct{ ref, want string }{{"^3", "has no version ^3"}, {"9.9.9", "the highest version is 1.1.0"}} {
		h.SetFollowed(map[string][]string{url: {tc.ref}})
		if err := h.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeNotFound || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.ref, err)
		}
	}
	missing := belay.ChartURL(s.URL, "none")
	h.SetFollowed(map[string][]string{missing: {"*"}})
	if err := h.CheckNow(t.Context(), missing); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("a chart that is not there: %v", err)
	}
}

func TestArtifactsOfARegistry(t *testing.T) {
	s := registrytest.ServeOCI(t, "belay", password)
	chart1 := s.PushChart("charts/web", "1.0.0", "web", "1.0.0", templates("1"))
	s.PushChart("charts/web", "2.0.0_build.1", "web", "2.0.0+build.1", templates("2"))
	flux1 := s.PushFlux("apps/shop", "latest", map[string]string{"a.yaml": "a: 1\n", "sub/b.yaml": "b: 1\n"})
	s.Push("apps/files", "v1", "application/vnd.oci.empty.v1+json", registrytest.Layer{MediaType: "application/yaml", Title: "a.yaml", Content: []byte("a: 1\n")},
		registrytest.Layer{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Title: "dir", Content: registrytest.Pack(t, map[string]string{"dir/b.yaml": "b: 1\n"})})
	web, shop, files := s.Repo("charts/web"), s.Repo("apps/shop"), s.Repo("apps/files")
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{web: {"^1", "*", chart1}, shop: {"latest", "*"}, files: {"v1"}})
	root := RepoConfig{URL: s.Repo("")[:len(s.Repo(""))-1], PlainHTTP: true, Auth: basic("belay", "wrong")}
	root.URL = s.Repo("charts")
	h.Configure([]RepoConfig{root, {URL: s.Repo("apps"), PlainHTTP: true, Auth: basic("belay", password)}})
	if err := h.CheckNow(t.Context(), web); belay.CodeOf(err) != belay.CodeForbidden || strings.Contains(err.Error(), "wrong") {
		t.Fatalf("with the wrong password: %v", err)
	}
	root.Auth = basic("belay", password)
	h.Configure([]RepoConfig{root, {URL: s.Repo("apps"), PlainHTTP: true, Auth: basic("belay", password)}})
	for _, url := range []string{web, shop, files} {
		check(t, h, url)
	}
	mustBe(t, h, web, "^1", "1.0.0", chart1)
	mustBe(t, h, web, chart1, chart1, chart1)
	if rev, _ := h.Revision(web, "*"); rev.Name != "2.0.0+build.1" {
		t.Errorf("the newest is %+v", rev)
	}
	mustBe(t, h, shop, "latest", "latest", flux1)
	mustBe(t, h, shop, "*", "latest", flux1)
	if got := readAll(t, h, web, chart1, "values.yaml") + readAll(t, h, shop, flux1, "sub/b.yaml"); got != "value: 1\nb: 1\n" {
		t.Errorf("contents are %q", got)
	}
	rev, _ := h.Revision(files, "v1")
	if got := readAll(t, h, files, rev.Commit, "a.yaml") + readAll(t, h, files, rev.Commit, "dir/b.yaml"); got != "a: 1\nb: 1\n" {
		t.Errorf("contents of layers are %q", got)
	}

	// At rest a tag costs a question for its digest.
	before := len(s.Requests())
	check(t, h, files)
	for _, r := range s.Requests()[before:] {
		if r != "HEAD /v2/apps/files/manifests/v1" && r != "GET /token" {
			t.Errorf("at rest: %s", r)
		}
	}
	flux2 := s.PushFlux("apps/shop", "latest", map[string]string{"a.yaml": "a: 2\n", "sub/b.yaml": "b: 1\n"})
	if h.Poke(s.Repo("apps/shop")) != 1 {
		t.Error("the push hook does not know the repository")
	}
	check(t, h, shop)
	mustBe(t, h, shop, "latest", "latest", flux2)
	if c, err := h.Diff(t.Context(), shop, flux1, flux2); err != nil || len(c) != 1 || c[0].Path != "a.yaml" {
		t.Errorf("the difference is %v, %v", c, err)
	}
}

func TestHostileArchives(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	many := make([]tar.Header, maxArchiveFiles+1)
	for i := range many {
		many[i] = file("c/" + strings.Repeat("a", i%50+1) + "/" + string(rune('a'+i%26)) + strings.Repeat("x", i/26%60) + string(rune('a'+i/1560)))
	}
	zeros := strings.Repeat("\x00", maxArchiveFile)
	var bomb []tar.Header
	contents := map[string]string{}
	for _, n := range []string{"c/1", "c/2", "c/3", "c/4", "c/5"} {
		bomb = append(bomb, tar.Header{Name: n, Typeflag: tar.TypeReg, Size: maxArchiveFile})
		contents[n] = zeros
	}
	for want, packed := range map[string][]byte{
		`contains "../x", which leads out of it`:           registrytest.PackEntries(t, []tar.Header{file("../x")}, nil),
		`contains "/etc/passwd", which leads out of it`:    registrytest.PackEntries(t, []tar.Header{file("/etc/passwd")}, nil),
		`contains "c/a/../../../x", which leads out of it`: registrytest.PackEntries(t, []tar.Header{file("c/a/../../../x")}, nil),
		`contains "c\\x", which leads out of it`:           registrytest.PackEntries(t, []tar.Header{file(`c\x`)}, nil),
		`contains the link "c/l"`:                          registrytest.PackEntries(t, []tar.Header{{Name: "c/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}, nil),
		`contains the link "c/h"`:                          registrytest.PackEntries(t, []tar.Header{{Name: "c/h", Typeflag: tar.TypeLink, Linkname: "x"}}, nil),
		`neither a file nor a directory`:                   registrytest.PackEntries(t, []tar.Header{{Name: "c/d", Typeflag: tar.TypeChar}}, nil),
		`both as a file and as a directory`:                registrytest.PackEntries(t, []tar.Header{file("c/a"), file("c/a/b")}, nil),
		`has more than 20000 files`:                        registrytest.PackEntries(t, many, nil),
		`unpacks to more than 128 MiB`:                     registrytest.PackEntries(t, bomb, contents),
		`bigger than 32 MiB`:                               registrytest.PackEntries(t, []tar.Header{{Name: "c/x", Typeflag: tar.TypeReg, Size: maxArchiveFile + 1}}, map[string]string{"c/x": zeros + "\x00"}),
		`more than 40 deep`:                                registrytest.PackEntries(t, []tar.Header{file(strings.Repeat("d/", 50) + "x")}, nil),
		`is not packed with gzip`:                          []byte("plain"),
		`is damaged`:                                       registrytest.Pack(t, map[string]string{"c/x": strings.Repeat("0123456789", 1000)})[:60],
		`not one directory with everything in it`:          registrytest.Pack(t, map[string]string{"a/x": "", "b/x": ""}),
	} {
		s := registrytest.ServeHelm(t, "", "")
		s.PublishArchive("web", "1.0.0", packed)
		url := belay.ChartURL(s.URL, "web")
		h := newHub(t, t.TempDir(), Options{})
		h.SetFollowed(map[string][]string{url: {"*"}})
		err := h.CheckNow(t.Context(), url)
		if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// What Git and an archive hold alike has the same digests: a read set does not
// care where the files come from.
func TestAnArchiveIsAsGitWouldHaveIt(t *testing.T) {
	a := newArchive()
	if err := a.unpack(registrytest.Pack(t, map[string]string{"a/b.yaml": "b\n", "c.yaml": "c\n"})); err != nil {
		t.Fatal(err)
	}
	a.top.seal()
	got := &Snapshot{view{store: a}}
	dir := t.TempDir()
	if err := os.CopyFS(dir, got); err != nil {
		t.Fatal(err)
	}
	want, err := Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for _, r := range []belay.Read{{Kind: belay.ReadFile, Path: "a/b.yaml"}, {Kind: belay.ReadList, Path: "."}, {Kind: belay.ReadList, Path: "a"}, {Kind: belay.ReadStat, Path: "none"}} {
		x, err1 := got.Digest(r.Kind, r.Path)
		y, err2 := want.Digest(r.Kind, r.Path)
		if err1 != nil || err2 != nil || x != y {
			t.Errorf("%+v: %s %v, want %s %v", r, x, err1, y, err2)
		}
	}
	if _, err := got.ReadFile("a/none"); !os.IsNotExist(err) {
		t.Error(err)
	}
	if err := fs.WalkDir(got, ".", func(string, fs.DirEntry, error) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestStrangersAreKeptOutOfTheLocalNetwork(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "10.1.2.3": true, "192.168.0.1": true, "169.254.169.254": true, "100.64.0.1": true, "0.0.0.0": true,
		"::1": true, "fe80::1": true, "fd00::1": true, "::ffff:10.0.0.1": true, "64:ff9b::a00:1": true, "140.82.121.4": false, "2606:50c0:8000::153": false} {
		if got := refuseLocal(netip.MustParseAddr(addr)) != nil; got != want {
			t.Errorf("%s is refused: %v", addr, got)
		}
	}
	s := registrytest.ServeHelm(t, "", "")
	s.Publish("web", "1.0.0", templates("1"))
	o := registrytest.ServeOCI(t, "", "")
	o.PushChart("web", "1.0.0", "web", "1.0.0", templates("1"))
	chart := belay.ChartURL(s.URL, "web")
	h := newHub(t, t.TempDir(), Options{})
	h.SetStrangers([]string{chart, o.Repo("web")})
	h.SetFollowed(map[string][]string{chart: {"*"}, o.Repo("web"): {"*"}})
	for _, url := range []string{chart, o.Repo("web")} {
		if err := h.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), "local network") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if n := len(s.Requests()) + len(o.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	h.Configure([]RepoConfig{{URL: s.URL}, {URL: o.Repo("web"), PlainHTTP: true}})
	check(t, h, chart)
	check(t, h, o.Repo("web"))
}
