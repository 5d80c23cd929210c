package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumented: every exported name of the library has a doc comment, and every package.
func TestDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	names := 0
	for _, top := range []string{"types", "scheduling", "plugins", "datastore", "openai", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if d.Name() == "testdata" {
				return filepath.SkipDir
			}
			n, missing := undocumented(t, path)
			names += n
			require.Empty(t, missing, "%s: without a doc comment", path)
			return nil
		})
		require.NoError(t, err)
	}
	require.Greater(t, names, 500)
}

// undocumented returns how many exported names the package in a folder has, and those that
// nothing is said of.
func undocumented(t *testing.T, dir string) (names int, missing []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	said, seen := false, false
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		require.NoError(t, err)
		if ast.IsGenerated(f) {
			said = said || f.Doc != nil
			continue
		}
		seen, said = true, said || f.Doc != nil
		note := func(name *ast.Ident, doc ...*ast.CommentGroup) {
			if !name.IsExported() {
				return
			}
			names++
			for _, d := range doc {
				if d != nil {
					return
				}
			}
			missing = append(missing, name.Name)
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil || exported(decl.Recv.List[0].Type) {
					note(decl.Name, decl.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						note(spec.Name, decl.Doc, spec.Doc)
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							note(name, decl.Doc, spec.Doc, spec.Comment)
						}
					}
				}
			}
		}
	}
	if seen && !said {
		missing = append(missing, "the package")
	}
	return names, missing
}

// exported reports whether the type of a receiver is.
func exported(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.StarExpr:
		return exported(e.X)
	case *ast.IndexExpr:
		return exported(e.X)
	case *ast.IndexListExpr:
		return exported(e.X)
	case *ast.Ident:
		return e.IsExported()
	}
	return false
}
