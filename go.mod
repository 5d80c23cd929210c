module github.com/inferpick/inferpick

go 1.26
