package acme

import "testing"

func TestParseCertID(t *testing.T) {
	// RFC 9773, Section 4.1.
	id, err := ParseCertID("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	if err != nil {
		t.Fatal(err)
	}
	want := CertID{KeyID: "69885b6b87464041e1b37b847ba0ae2cde01c8d4", Serial: "0087654321"}
	if id != want {
		t.Errorf("got %+v, want %+v", id, want)
	}
	for _, test := range []struct{ name, text string }{
		{"empty", ""},
		{"one part", "aYhba4dGQEHhs3uEe6CuLN4ByNQ"},
		{"three parts", "aYhb.AIdlQyE.AIdlQyE"},
		{"no key identifier", ".AIdlQyE"},
		{"no serial", "aYhba4dGQEHhs3uEe6CuLN4ByNQ."},
		{"padding", "aYhba4dGQEHhs3uEe6CuLN4ByNQ=.AIdlQyE="},
		{"standard alphabet", "aYhba4dGQEHhs3uEe6CuLN4By/Q.AIdlQyE"},
		{"stray bits at the end", "aYhba4dGQEHhs3uEe6CuLN4ByNR.AIdlQyE"},
		{"line break", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdl\nQyE"},
		{"negative serial", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.h2VDIQ"},
		{"superfluous zero", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AAECAw"},
		{"serial zero", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AA"},
		{"too long", "aYhba4dGQEHhs3uEe6CuLN4ByNQ." + string(make([]byte, 200))},
	} {
		if id, err := ParseCertID(test.text); err == nil {
			t.Errorf("%s: accepted as %+v", test.name, id)
		}
	}
}

func FuzzParseCertID(f *testing.F) {
	f.Add("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseCertID(text)
		if err == nil && (id.KeyID == "" || id.Serial == "" || len(id.Serial)%2 != 0) {
			t.Fatalf("%q gives %+v", text, id)
		}
	})
}
