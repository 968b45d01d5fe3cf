"""Does an interposer hold what it promises? Programs that try one, on the stand-in or a GPU, and what is made of it."""
