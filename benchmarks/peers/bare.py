"""A bare server around a LightGBM model, the floor of tabular.py: FOLDER PORT library|package."""

import json
import sys
from pathlib import Path

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

folder, port, library = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if library == "package":
    import lightgbm

    predict = lightgbm.Booster(model_file=f"{folder}/model.lgb").predict
else:
    from modelyard.adapters.model_lightgbm import LightgbmModel

    predict = LightgbmModel(Path(folder)).predict


async def invocations(request):
    body = json.loads(await request.body())["dataframe_split"]
    scores = predict(np.array(body["data"], dtype=np.float64))
    return Response(json.dumps({"predictions": scores.tolist()}).encode(), media_type="application/json")


async def ready(request):
    return Response(b"ok")


app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"]), Route("/health", ready)])
uvicorn.run(app, port=port, log_level="error", access_log=False)
