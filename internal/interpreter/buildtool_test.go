package interpreter
import ("testing";"os";"context";"fmt")
func TestTool(t *testing.T){ d:=os.Getenv("TOOL_DIR"); if d==""{t.Skip()}; p,err:=Build(context.Background(),d,os.Getenv("TOOL_NAME")); fmt.Println(p,err) ; if err!=nil {t.Fatal(err)} }
